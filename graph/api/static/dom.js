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
const ITEM = /^\s*(?:[-*•]|(\d{1,3})[.)])\s+/; // not a year: "2026. 11. 1."

/** Returns an answer's paragraphs, lists, bold words and links as elements. */
export function prose(text) {
  const blocks = [];
  for (const line of text.split("\n")) {
    const item = ITEM.exec(line);
    if (item) {
      const kind = item[1] === undefined ? "ul" : "ol";
      let list = blocks.at(-1);
      if (list?.localName !== kind) {
        list = element(kind);
        blocks.push(list);
      }
      // With its own number: a paragraph or a list inside the list begins a new one.
      list.append(element("li", { value: item[1] }, ...inline(line.slice(item[0].length))));
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
