// Builds elements from text only: nothing that came from a model is ever read as HTML.

/** Returns an element with attributes and children; a null child is left out. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "on") for (const [event, listener] of Object.entries(value)) made.addEventListener(event, listener);
    else if (key === "vars") for (const [each, text] of Object.entries(value)) made.style.setProperty(`--${each}`, text);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const INLINE = /\*\*([^*\n]+)\*\*|\[([^\]\n]+)\]\((https?:\/\/[^\s)]+)\)|(https?:\/\/[^\s<>()]+[^\s<>().,;:!?])/g;
const ITEM = /^\s*(?:[-*•]|\d+[.)])\s+/;

/** Returns an answer's paragraphs, lists, bold words and links as elements. */
export function prose(text) {
  const blocks = [];
  for (const line of text.split("\n")) {
    if (ITEM.test(line)) {
      const ordered = /^\s*\d/.test(line);
      let list = blocks.at(-1);
      if (list?.localName !== (ordered ? "ol" : "ul")) {
        list = element(ordered ? "ol" : "ul");
        blocks.push(list);
      }
      list.append(element("li", {}, ...inline(line.replace(ITEM, ""))));
    } else if (line.trim()) {
      const heading = /^#{1,6}\s+(.*)$/.exec(line);
      blocks.push(element("p", {}, ...(heading ? [element("strong", {}, heading[1])] : inline(line))));
    }
  }
  return blocks;
}

function inline(line) {
  const parts = [];
  let end = 0;
  for (const match of line.matchAll(INLINE)) {
    parts.push(line.slice(end, match.index));
    const [whole, bold, label, address, bare] = match;
    if (bold) parts.push(element("strong", {}, bold));
    else parts.push(element("a", { href: address ?? bare, rel: "noopener noreferrer", target: "_blank" }, label ?? bare));
    end = match.index + whole.length;
  }
  return [...parts, line.slice(end)];
}
