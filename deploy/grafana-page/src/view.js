// The time range and the variables that a dashboard is viewed with, as Grafana works them out.
import { dateMath, dateTime, rangeUtil } from '@grafana/data';

const SECOND = 1000;

// Values of the dashboard's variables by name; the address may set one: ?var-node=answer
export function variablesOf(dashboard, address) {
  const values = {};
  for (const variable of dashboard.templating.list) {
    const chosen = address.getAll(`var-${variable.name}`);
    const current = variable.current?.value ?? variable.query;
    const isAll = current === '$__all' || current?.[0] === '$__all';
    values[variable.name] = chosen.length ? chosen : isAll ? [variable.allValue ?? '.*'] : [String(current ?? '')];
    values[variable.name].isAll = isAll && !chosen.length;
  }
  return values;
}

// The range of one panel: its own timeFrom and timeShift move the dashboard's.
export function rangeOf(panel, minutes, now) {
  let from = dateTime(now - minutes * 60 * SECOND);
  let to = dateTime(now);
  let note = '';
  if (panel.timeFrom) {
    const described = rangeUtil.describeTextRange(panel.timeFrom);
    from = dateMath.parse(described.from);
    to = dateMath.parse(described.to);
    note = described.display;
  }
  if (panel.timeShift) {
    from = dateMath.parseDateMath(`-${panel.timeShift}`, from, false);
    to = dateMath.parseDateMath(`-${panel.timeShift}`, to, true);
    note = `${note} timeshift -${panel.timeShift}`;
  }
  return { from, to, raw: { from, to }, note: panel.hideTimeOverride ? '' : note };
}

// Seconds between two points, as Grafana's backend chooses them.
export function stepOf(panel, range, scrapeSeconds, width) {
  const least = panel.interval ? rangeUtil.intervalToMs(panel.interval) : scrapeSeconds * SECOND;
  return rangeUtil.calculateInterval(range, Math.max(width, 100), `${least}ms`).intervalMs / SECOND;
}

export function interpolate(text, { variables, range, step, scrapeSeconds }) {
  const seconds = (range.to.valueOf() - range.from.valueOf()) / SECOND;
  const rate = Math.max(step + scrapeSeconds, 4 * scrapeSeconds);
  const own = {
    __rate_interval: `${rate}s`,
    __rate_interval_ms: rate * SECOND,
    __interval: `${step}s`,
    __interval_ms: step * SECOND,
    __range: `${Math.round(seconds)}s`,
    __range_s: Math.round(seconds),
    __range_ms: Math.round(seconds * SECOND),
  };
  return text.replace(/\$(?:\{(\w+)(?::(\w+))?\}|(\w+))/g, (whole, braced, format, plain) => {
    const name = braced ?? plain;
    if (name in own) return own[name];
    const values = variables[name];
    if (values === undefined) throw new Error(`the variable ${name} of ${text} is not defined`);
    if (values.isAll || format === 'raw') return values.join(',');
    const escape = (value) => value.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');
    const escaped = values.map((value) => (format === 'regex' ? escape(value) : escape(value).replaceAll('\\', '\\\\')));
    if (format === undefined && values.length === 1 && /^[\d.]+$/.test(values[0])) return values[0];
    return escaped.length > 1 ? `(${escaped.join('|')})` : escaped[0];
  });
}
