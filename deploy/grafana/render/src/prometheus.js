// Asks Prometheus what a panel asks and makes Grafana's data frames of the answers, as its data source does.
import { createDataFrame, FieldType } from '@grafana/data';

export async function framesOf(panel, ask) {
  const frames = [];
  const isTable = panel.type === 'table';
  for (const target of panel.targets) {
    const expr = ask.filled(target.expr);
    const answer = target.instant
      ? await get(ask, 'query', { query: expr, time: ask.end })
      : await get(ask, 'query_range', { query: expr, start: ask.start, end: ask.end, step: ask.step });
    if (isTable) {
      frames.push(tableFrame(target, answer.result, panel.targets.length > 1));
      continue;
    }
    for (const series of answer.result) {
      frames.push(seriesFrame(panel, target, series, ask.step));
    }
  }
  return frames;
}

export async function marksOf(annotation, ask) {
  const step = Number.parseInt(annotation.step, 10);
  const answer = await get(ask, 'query_range', {
    query: ask.filled(annotation.expr), start: ask.start, end: ask.end, step,
  });
  // points in a row are one region
  return answer.result.flatMap((series) => {
    const regions = [];
    for (const [at] of series.values) {
      const last = regions.at(-1);
      if (last && at - last.to <= step) last.to = at;
      else regions.push({ from: at, to: at, color: annotation.iconColor });
    }
    return regions;
  });
}

async function get(ask, path, params) {
  const answer = await (await fetch(`${ask.prometheus}/api/v1/${path}?${new URLSearchParams(params)}`)).json();
  if (answer.status !== 'success') throw new Error(answer.error);
  return answer.data;
}

function legend(target, labels) {
  const format = target.legendFormat;
  if (format === '__auto') {
    const { __name__: name = '', ...others } = labels;
    return `${name}{${Object.entries(others).map(([k, v]) => `${k}="${v}"`).join(', ')}}`;
  }
  return format.replace(/{{\s*(\w+)\s*}}/g, (_, label) => labels[label] ?? '');
}

function number(text) {
  const value = Number(text);
  return Number.isNaN(value) ? null : value;
}

function seriesFrame(panel, target, series, step) {
  const points = series.values ?? [series.value];
  const name = legend(target, series.metric);
  return createDataFrame({
    name,
    refId: target.refId,
    fields: [
      { name: 'Time', type: FieldType.time, config: { interval: step * 1000 }, values: points.map(([at]) => at * 1000) },
      {
        name: 'Value',
        type: FieldType.number,
        labels: series.metric,
        config: { displayNameFromDS: name },
        values: points.map(([, value]) => number(value)),
      },
    ],
  });
}

function tableFrame(target, result, isOneOfSeveral) {
  const labels = [...new Set(result.flatMap((series) => Object.keys(series.metric)))].sort();
  return createDataFrame({
    refId: target.refId,
    fields: [
      { name: 'Time', type: FieldType.time, values: result.map((s) => s.value[0] * 1000) },
      ...labels.map((label) => ({
        name: label, type: FieldType.string, config: { filterable: true }, values: result.map((s) => s.metric[label] ?? ''),
      })),
      {
        name: isOneOfSeveral ? `Value #${target.refId}` : 'Value',
        type: FieldType.number,
        values: result.map((s) => number(s.value[1])),
      },
    ],
  });
}
