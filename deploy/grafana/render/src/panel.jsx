// One panel, drawn by Grafana's own components from its JSON: what its dashboard engine does between JSON and
// component, reduced to what our panels use. A kind or an option that is not known here throws.
import { useEffect, useState } from 'react';
import { lastValueFrom } from 'rxjs';
import {
  applyFieldOverrides, applyNullInsertThreshold, FieldConfigOptionsRegistry, FieldType, getDisplayValueAlignmentFactors, getFieldDisplayValues,
  standardTransformers, standardTransformersRegistry, transformDataFrame, VizOrientation,
} from '@grafana/data';
import { BarGauge, BigValue, PanelChrome, Table, TimeSeries, VizRepeater } from '@grafana/ui';
import { framesOf } from './prometheus.js';

standardTransformersRegistry.setInit(() =>
  [standardTransformers.mergeTransformer, standardTransformers.organizeFieldsTransformer].map((transformation) => ({
    id: transformation.id, name: transformation.name, transformation, editor: () => null,
  })));

const option = (id, path = id, isCustom = false) => ({
  id, path, name: id, isCustom, process: (value) => value, shouldApply: () => true, override: () => null, editor: () => null,
});
const registry = new FieldConfigOptionsRegistry();
for (const id of ['unit', 'decimals', 'min', 'max', 'color', 'thresholds', 'mappings', 'noValue', 'displayName']) {
  registry.register(option(id));
}
const CUSTOM = {
  timeseries: {
    drawStyle: 'line', lineInterpolation: 'linear', barAlignment: 0, barWidthFactor: 0.6, lineWidth: 1, fillOpacity: 0,
    gradientMode: 'none', spanNulls: false, insertNulls: false, showPoints: 'auto', pointSize: 5,
    stacking: { mode: 'none', group: 'A' }, axisPlacement: 'auto', axisLabel: '', axisColorMode: 'text',
    axisBorderShow: false, scaleDistribution: { type: 'linear' }, axisCenteredZero: false,
    hideFrom: { tooltip: false, viz: false, legend: false }, thresholdsStyle: { mode: 'off' },
  },
  table: { align: 'auto', cellOptions: { type: 'auto' }, inspect: false, filterable: false },
};
const OWN = ['width', ...Object.values(CUSTOM).flatMap(Object.keys), 'axisSoftMin', 'axisSoftMax'];
for (const id of new Set(OWN)) registry.register(option(`custom.${id}`, id, true));
const COLOR = { timeseries: { mode: 'palette-classic' } };

async function data(panel, ask) {
  let frames = await framesOf(panel, ask);
  if (panel.transformations?.length) {
    frames = await lastValueFrom(transformDataFrame(panel.transformations, frames));
  }
  const { defaults, overrides } = panel.fieldConfig;
  const overridden = applyFieldOverrides({
    data: frames,
    fieldConfig: {
      defaults: {
        color: COLOR[panel.type] ?? { mode: 'thresholds' }, ...defaults,
        custom: { ...CUSTOM[panel.type], ...defaults.custom },
      },
      overrides,
    },
    replaceVariables: (text) => text, theme: ask.theme, fieldConfigRegistry: registry, timeZone: 'utc',
  });
  // a scrape that failed is a gap, in every series
  return panel.type === 'timeseries' ? overridden.map((frame) => applyNullInsertThreshold({ frame })) : overridden;
}

export function Panel({ panel, ask, range, marks, width, height }) {
  const [frames, setFrames] = useState(null);
  const [error, setError] = useState('');
  useEffect(() => { data(panel, ask).then(setFrames, (e) => setError(String(e))); }, []);
  const isEmpty = frames !== null && !frames.some((f) => f.fields.some((x) => x.type === FieldType.number && f.length));
  return (
    <div data-panel={panel.title} data-ready={frames !== null} data-error={error} data-empty={isEmpty}>
      <PanelChrome title={panel.title} width={width} height={height} description={panel.description}>
        {(w, h) => {
          if (error) return <div>{error}</div>;
          if (frames === null) return null;
          if (isEmpty) return <div>{panel.fieldConfig.defaults.noValue ?? 'No data'}</div>;
          return <Drawn panel={panel} frames={frames} ask={ask} range={range} marks={marks} width={w} height={h} />;
        }}
      </PanelChrome>
    </div>
  );
}

function Drawn({ panel, frames, ask, range, marks, width, height }) {
  const { options } = panel;
  switch (panel.type) {
    case 'timeseries':
      return (
        <TimeSeries frames={frames} structureRev={1} timeRange={range} timeZone="utc" width={width} height={height}
          legend={options.legend} options={options}>
          {(config) => { drawMarks(config, marks, ask.theme); return null; }}
        </TimeSeries>
      );
    case 'table':
      return <Table data={frames[0]} width={width} height={height} cellHeight={options.cellHeight} timeRange={range} initialSortBy={options.sortBy} />;
    case 'stat':
    case 'bargauge':
      return <Values panel={panel} frames={frames} ask={ask} width={width} height={height} />;
    default:
      throw new Error(`${panel.title}: nothing here draws a ${panel.type}`);
  }
}

function Values({ panel, frames, ask, width, height }) {
  const { options } = panel;
  const values = getFieldDisplayValues({
    fieldConfig: panel.fieldConfig, reduceOptions: options.reduceOptions, replaceVariables: (text) => text,
    theme: ask.theme, data: frames, sparkline: options.graphMode === 'area', timeZone: 'utc',
  });
  const isStat = panel.type === 'stat';
  const draw = ({ value, alignmentFactors, orientation, width: w, height: h, count }) => isStat
    ? <BigValue width={w} height={h} theme={ask.theme} value={value.display} sparkline={value.sparkline} count={count}
        colorMode={options.colorMode} graphMode={options.graphMode} textMode={options.textMode}
        justifyMode={options.justifyMode} alignmentFactors={alignmentFactors} />
    : <BarGauge width={w} height={h} theme={ask.theme} value={value.display} field={value.field} display={value.view?.getFieldDisplayProcessor(value.colIndex)}
        orientation={orientation} displayMode={options.displayMode} showUnfilled={options.showUnfilled}
        valueDisplayMode={options.valueMode} itemSpacing={8} lcdCellWidth={12} alignmentFactors={alignmentFactors} />;
  return (
    <VizRepeater source={frames} getValues={() => values} width={width} height={height} autoGrid={isStat}
      itemSpacing={isStat ? 3 : 8} renderCounter={0} orientation={isStat ? VizOrientation.Auto : VizOrientation.Horizontal}
      getAlignmentFactors={getDisplayValueAlignmentFactors} renderValue={draw} />
  );
}

// @grafana/ui leaves annotations to the application: a dashed line where one begins.
function drawMarks(config, marks, theme) {
  config.addHook('draw', (u) => {
    const { ctx, bbox } = u;
    ctx.save();
    ctx.lineWidth = 1;
    ctx.setLineDash([4, 4]);
    for (const mark of marks) {
      const x = u.valToPos(mark.from * 1000, 'x', true);
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      ctx.strokeStyle = theme.visualization.getColorByName(mark.color);
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
    }
    ctx.restore();
  });
}
