// Asks Prometheus and the ledger, and builds data frames as Grafana's backends do.
import { applyFieldOverrides, cacheFieldDisplayNames, FieldConfigOptionsRegistry, FieldType, LoadingState, standardTransformers, standardTransformersRegistry, toDataFrame, transformDataFrame } from '@grafana/data';
import { transformV2 } from '@grafana/prometheus';
import { lastValueFrom } from 'rxjs';
import { interpolate } from './view.js';

const transformers = new Map(Object.values(standardTransformers).map((one) => [one.id, one]));
standardTransformersRegistry.setInit(() =>
  [...transformers.values()].map((one) => ({ id: one.id, name: one.name, transformation: async () => one, editor: () => null })));

const STANDARD = ['unit', 'min', 'max', 'decimals', 'displayName', 'noValue', 'thresholds', 'mappings', 'links', 'color', 'filterable'];

export async function load(panel, view, theme) {
  const raw = (await Promise.all(panel.targets.map((target) => ask(panel, target, view)))).flat();
  const isSql = panel.targets.some((target) => 'rawSql' in target);
  let data = isSql ? raw : transformV2({ data: raw, state: LoadingState.Done }, { targets: panel.targets, range: view.range }, {}).data;
  if (panel.transformations?.length) data = await lastValueFrom(transformDataFrame(panel.transformations, data));
  const frames = applyFieldOverrides({
    data,
    fieldConfig: panel.fieldConfig ?? { defaults: {}, overrides: [] },
    fieldConfigRegistry: registryOf(panel),
    replaceVariables: (text) => text,
    theme,
    timeZone: 'utc',
  });
  cacheFieldDisplayNames(frames);
  return frames;
}

async function ask(panel, target, view) {
  return 'rawSql' in target ? askLedger(target, view) : askPrometheus(panel, target, view);
}

async function askPrometheus(panel, target, view) {
  const query = interpolate(target.expr, view);
  const { step } = view;
  const [start, end] = [view.range.from, view.range.to].map((time) => Math.floor(time.valueOf() / 1000));
  const aligned = [start, end].map((time) => Math.floor(time / step) * step);
  const body = target.instant ? { query, time: end } : { query, start: aligned[0], end: aligned[1], step };
  const answer = await fetched(`/prometheus/api/v1/${target.instant ? 'query' : 'query_range'}`, new URLSearchParams(body));
  if (answer.status !== 'success') throw new Error(`${answer.error} in ${query}`);
  return answer.data.result.map((series) => {
    const points = series.values ?? [series.value];
    const name = target.legendFormat.replace(/{{\s*(\w+)\s*}}/g, (_, label) => series.metric[label] ?? '');
    return toDataFrame({
      refId: target.refId,
      name,
      meta: { type: 'timeseries-multi', custom: { resultType: target.instant ? 'vector' : 'matrix' }, executedQueryString: query },
      fields: [
        { name: 'Time', type: FieldType.time, values: points.map(([time]) => time * 1000), config: { interval: step * 1000 } },
        { name: 'Value', type: FieldType.number, labels: series.metric, values: points.map(([, value]) => Number(value)), config: { displayNameFromDS: name } },
      ],
    });
  });
}

async function askLedger(target, view) {
  const [from, to] = [view.range.from, view.range.to].map((time) => `'${time.toISOString()}'`);
  const sql = interpolate(target.rawSql.replace(/\$__timeFilter\((\w+)\)/g, `$1 BETWEEN ${from} AND ${to}`), view);
  const answer = await fetched('/ledger', JSON.stringify({ sql }));
  if (answer.error) throw new Error(`${answer.error} in ${sql}`);
  const typeOf = (values) => ({ number: FieldType.number, boolean: FieldType.boolean }[typeof values.find((value) => value !== null)] ?? FieldType.string);
  const fields = answer.columns.map((name, index) => {
    const values = answer.rows.map((row) => row[index]);
    const isTime = name === 'Time';
    return { name, type: isTime ? FieldType.time : typeOf(values), values: isTime ? values.map((value) => Date.parse(value)) : values, config: {} };
  });
  return [toDataFrame({ refId: target.refId, fields })];
}

async function fetched(path, body) {
  const answer = await fetch(path, { method: 'POST', body });
  return answer.json();
}

// Grafana's panels register their own options; here every option that the panel sets is registered as it is.
function registryOf(panel) {
  const custom = new Set(Object.keys(panel.fieldConfig?.defaults?.custom ?? {}));
  for (const override of panel.fieldConfig?.overrides ?? [])
    for (const { id } of override.properties) if (id.startsWith('custom.')) custom.add(id.slice(7));
  const item = (id, path, isCustom) => ({
    id, path, name: id, isCustom, process: (value) => value, shouldApply: () => true, settings: {},
    editor: () => null, override: () => null, getItemsCount: () => 0,
  });
  return new FieldConfigOptionsRegistry(() => [
    ...STANDARD.map((id) => item(id, id, false)),
    ...[...custom].map((name) => item(`custom.${name}`, name, true)),
  ]);
}
