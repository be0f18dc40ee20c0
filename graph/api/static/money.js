// Dollars as the server states them: exact decimals, never floats.

/** Reads a decimal such as "0.00251" or "1E-7" as a whole number of 10^-scale dollars. */
function parse(text) {
  const match = /^(\d+)(?:\.(\d*))?(?:[eE]([+-]?\d+))?$/.exec(String(text));
  if (!match) throw new RangeError(`${text} is no decimal`);
  const fraction = match[2] ?? "";
  const scale = fraction.length - Number(match[3] ?? 0);
  const digits = BigInt(match[1] + fraction);
  return scale < 0 ? { digits: digits * 10n ** BigInt(-scale), scale: 0 } : { digits, scale };
}

/** Returns the exact sum of decimals, as text. */
export function sum(texts) {
  const parts = texts.map(parse);
  const scale = Math.max(0, ...parts.map((part) => part.scale));
  const digits = parts.reduce((total, part) => total + part.digits * 10n ** BigInt(scale - part.scale), 0n);
  if (!scale) return String(digits);
  const padded = String(digits).padStart(scale + 1, "0");
  return `${padded.slice(0, -scale)}.${padded.slice(-scale)}`;
}

/** Returns dollars for people: two decimals from a dollar up, else three significant digits. */
export function dollars(text) {
  const value = Number(text);
  if (value === 0) return "$0";
  if (value >= 1) return `$${value.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 })}`;
  const decimals = Math.min(12, Math.max(2, 2 - Math.floor(Math.log10(value))));
  return `$${value.toFixed(decimals).replace(/(\.\d\d\d*?)0+$/, "$1")}`;
}

/** Returns how many decimals show four digits of a total: its parts get as many, so that a column can be compared. */
export function decimalsFor(total) {
  const value = Number(total);
  return value > 0 ? Math.min(12, Math.max(2, 3 - Math.floor(Math.log10(value)))) : 2;
}

/** Returns dollars with so many decimals; what would show as nothing is "<" the smallest figure. */
export function dollarsWith(text, decimals) {
  const shown = Number(text).toFixed(decimals);
  return Number(shown) === 0 && Number(text) > 0 ? `<$${(10 ** -decimals).toFixed(decimals)}` : `$${shown}`;
}

/** Returns the exact decimal for a tooltip. */
export function exact(text) {
  return `$${sum([text]).replace(/\.?0+$/, (zeros, at, all) => (all.includes(".") ? "" : zeros))}`;
}
