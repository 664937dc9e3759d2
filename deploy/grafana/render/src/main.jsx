// One dashboard: /?board=URL&prometheus=URL&start=S&end=S&step=S&variables=JSON&width=PX (Unix seconds).
import { useEffect, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { createTheme, dateTime, ThemeContext } from '@grafana/data';
import { GlobalStyles, PortalContainer } from '@grafana/ui';
import { Panel } from './panel.jsx';
import { marksOf } from './prometheus.js';

const given = new URLSearchParams(location.search);
const WIDTH = Number(given.get('width'));
const COLUMN = WIDTH / 24;
// Grafana's: a unit of the grid is 30 px, and 8 between two.
const ROW = 38;
const GAP = 8;
const HEAD = 76;

const variables = JSON.parse(given.get('variables'));
const theme = createTheme({ colors: { mode: given.get('theme') ?? 'dark' } });
const filled = (text) => text.replace(/\$\{?(\w+)\}?/g, (whole, name) => {
  if (!(name in variables)) throw new Error(`no variable ${name}`);
  return [variables[name]].flat().join('|');
});
const [start, end, step] = ['start', 'end', 'step'].map((name) => Number(given.get(name)));
const ask = { prometheus: given.get('prometheus'), start, end, step, filled, theme };
const range = { from: dateTime(start * 1000), to: dateTime(end * 1000), raw: { from: dateTime(start * 1000), to: dateTime(end * 1000) } };

function Board() {
  const [board, setBoard] = useState(null);
  const [marks, setMarks] = useState(null);
  useEffect(() => {
    (async () => {
      const found = await (await fetch(given.get('board'))).json();
      setMarks((await Promise.all(found.annotations.list.map((a) => marksOf(a, ask)))).flat());
      setBoard(found);
    })().catch((error) => { document.body.dataset.error = String(error); });
  }, []);
  if (board === null || marks === null) return null;
  const height = HEAD + ROW * Math.max(...board.panels.map((p) => p.gridPos.y + p.gridPos.h));
  const shown = board.templating.list.filter((v) => v.type === 'query').map((v) => `${v.label}: ${[variables[v.name]].flat().join(' + ')}`);
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <PortalContainer />
      <div data-board={board.title} style={{ position: 'relative', width: WIDTH, height, background: theme.colors.background.canvas }}>
        <div style={{ padding: '14px 10px 0', ...theme.typography.h4 }}>{board.title}</div>
        <div style={{ padding: '4px 10px', color: theme.colors.text.secondary }}>{shown.join('   ·   ')}</div>
        {board.panels.map((p) => {
          const at = { position: 'absolute', left: p.gridPos.x * COLUMN + GAP / 2, top: HEAD + p.gridPos.y * ROW };
          if (p.type === 'row') {
            return <div key={p.id} data-row={p.title} style={{ ...at, paddingTop: 8, ...theme.typography.h5 }}>{p.title}</div>;
          }
          return (
            <div key={p.id} style={at}>
              <Panel panel={p} ask={ask} range={range} marks={marks} width={p.gridPos.w * COLUMN - GAP} height={p.gridPos.h * ROW - GAP} />
            </div>
          );
        })}
      </div>
    </ThemeContext.Provider>
  );
}

createRoot(document.getElementById('root')).render(<Board />);
