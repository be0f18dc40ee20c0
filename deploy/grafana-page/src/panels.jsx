// Draws one panel with Grafana's component for its type.
import { applyNullInsertThreshold, FieldType, getDisplayValueAlignmentFactors, getFieldDisplayValues } from '@grafana/data';
import { BarGauge, BigValue, TimeSeries, VizRepeater } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';

const TIMESERIES_DEFAULTS = {
  drawStyle: 'line', lineInterpolation: 'linear', lineWidth: 1, fillOpacity: 0, showPoints: 'auto', pointSize: 5, axisPlacement: 'auto', spanNulls: false,
};

export function Visualization({ panel, series, range, theme, width, height }) {
  const hasRows = series.some((frame) => frame.length > 0);
  // A stat without data shows its noValue.
  if (!hasRows && panel.type !== 'stat')
    return <div data-empty style={{ padding: 16, textAlign: 'center', color: theme.colors.text.secondary }}>No data</div>;
  const Drawn = { timeseries: Graph, stat: Stat, bargauge: Bars, table: Rows }[panel.type];
  if (!Drawn) throw new Error(`${panel.type} is no part of @grafana/ui`);
  return <Drawn {...{ panel, series, range, theme, width, height, options: panel.options ?? {} }} />;
}

function Graph({ series, options, range, width, height }) {
  // Where points are missing the line is broken, as in Grafana.
  const frames = series.map((frame) => applyNullInsertThreshold({ frame, refFieldPseudoMax: range.to.valueOf() }) ?? frame);
  for (const frame of frames)
    for (const field of frame.fields)
      if (field.type === FieldType.number) {
        field.values = field.values.map((value) => (Number.isFinite(value) ? value : null));
        field.config.custom = { ...TIMESERIES_DEFAULTS, ...field.config.custom };
      }
  return <TimeSeries frames={frames} structureRev={1} timeRange={range} timeZone="utc" width={width} height={height} legend={options.legend} options={options} />;
}

function displayed({ panel, series, theme, options }) {
  return getFieldDisplayValues({
    fieldConfig: panel.fieldConfig, reduceOptions: options.reduceOptions, replaceVariables: (text) => text, theme, data: series, timeZone: 'utc',
    sparkline: options.graphMode === 'area',
  });
}

function Stat(props) {
  const { options, series, width, height, theme } = props;
  return (
    <VizRepeater getValues={() => displayed(props)} getAlignmentFactors={getDisplayValueAlignmentFactors} orientation="auto" width={width} height={height}
      source={series} autoGrid renderCounter={1}
      renderValue={({ value, width, height, count, alignmentFactors }) => (
        <BigValue value={value.display} count={count} sparkline={value.sparkline} colorMode={options.colorMode} graphMode={options.graphMode}
          textMode="value" width={width} height={height} theme={theme} alignmentFactors={alignmentFactors} />
      )} />
  );
}

function Bars(props) {
  const { options, series, width, height, theme } = props;
  return (
    <VizRepeater getValues={() => displayed(props)} getAlignmentFactors={getDisplayValueAlignmentFactors} orientation={options.orientation} width={width}
      height={height} source={series} renderCounter={1} itemSpacing={10} minVizHeight={options.minVizHeight} maxVizHeight={options.maxVizHeight}
      renderValue={({ value, width, height, orientation, alignmentFactors }) => (
        <BarGauge value={value.display} itemSpacing={8} lcdCellWidth={14} text={options.text} width={width} height={height} orientation={orientation} field={value.field}
          display={value.view?.getFieldDisplayProcessor(value.colIndex)} theme={theme} displayMode={options.displayMode}
          valueDisplayMode={options.valueMode} namePlacement={options.namePlacement} showUnfilled alignmentFactors={alignmentFactors} />
      )} />
  );
}

function Rows({ series, options, range, width, height }) {
  return (
    <TableNG data={series[0]} width={width} height={height} sortBy={options.sortBy} timeRange={range} structureRev={1} cellHeight="sm"
      replaceVariables={(text) => text} />
  );
}
