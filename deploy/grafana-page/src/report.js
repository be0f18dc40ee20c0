// What each panel shows, for the checks: texts, whether it is empty, zeros that are none, names that are cut.
import { FieldType, formattedValueToString, getDisplayProcessor, reduceField } from '@grafana/data';

// Grafana's rounding may show a small number as 0 where no number is 0.
export function falseZeros(panel, series, theme) {
  const found = [];
  for (const frame of series)
    for (const field of frame.fields) {
      if (field.type !== FieldType.number || field.config.custom?.hideFrom?.viz) continue;
      const display = field.display ?? getDisplayProcessor({ field, theme });
      const values = panel.type === 'table' ? field.values : [reduceField({ field, reducers: ['lastNotNull'] }).lastNotNull];
      for (const value of values) {
        if (!Number.isFinite(value) || value === 0) continue;
        const text = formattedValueToString(display(value));
        if (Number.parseFloat(text.replace(/[^\d.eE-]/g, '')) === 0) found.push(`${field.state?.displayName ?? field.name}: ${value} is shown as ${text}`);
      }
    }
  return found;
}

export function seen(element) {
  const cut = [...element.querySelectorAll('*')]
    .filter((one) => !one.children.length && one.textContent.trim() && getComputedStyle(one).textOverflow === 'ellipsis' && one.scrollWidth > one.clientWidth + 1)
    .map((one) => one.textContent);
  return { text: element.innerText, empty: element.querySelector('[data-empty]') !== null, cut };
}
