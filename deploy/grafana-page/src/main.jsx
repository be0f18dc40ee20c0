// Draws a dashboard: /?board=eco2-cost&minutes=60&scrape=15. The tests read window.__report() once window.__loaded is true.
import { createTheme, LoadingState, ThemeContext } from '@grafana/data';
import { GlobalStyles, PanelChrome, PanelContextProvider } from '@grafana/ui';
import { Component, useEffect, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { Visualization } from './panels.jsx';
import { load } from './queries.js';
import { falseZeros, seen } from './report.js';
import { rangeOf, stepOf, variablesOf } from './view.js';

const WIDTH = 1600, UNIT = 30, GAP = 8, HEAD = 84;
const address = new URLSearchParams(location.search);
const minutes = Number(address.get('minutes') ?? 60);
const scrapeSeconds = Number(address.get('scrape') ?? 15);
const now = Number(address.get('now') ?? Date.now());
const theme = createTheme({ colors: { mode: 'dark' } });
const reports = new Map();
let waiting = 0;

class Catch extends Component {
  state = {};
  static getDerivedStateFromError(error) { return { error }; }
  componentDidCatch(error) { this.props.onError(error); }
  render() { return this.state.error ? <pre style={{ color: 'tomato' }}>{String(this.state.error)}</pre> : this.props.children; }
}

function Panel({ panel, variables }) {
  const [series, setSeries] = useState(null);
  const grid = panel.gridPos;
  const width = (grid.w * WIDTH) / 24 - GAP, height = grid.h * (UNIT + GAP) - GAP;
  const range = rangeOf(panel, minutes, now);
  const report = reports.get(panel.id);
  const onError = (error) => report.errors.push(String(error.stack ?? error));
  useEffect(() => {
    const view = { variables, range, scrapeSeconds, step: stepOf(panel, range, scrapeSeconds, width) };
    load(panel, view, theme)
      .then((loaded) => { report.zeros = falseZeros(panel, loaded, theme); setSeries(loaded); })
      .catch((error) => { onError(error); setSeries([]); })
      .finally(() => { waiting -= 1; });
  }, []);
  return (
    <div id={`panel-${panel.id}`} style={{ position: 'absolute', left: GAP + (grid.x * (WIDTH - GAP)) / 24, top: HEAD + grid.y * (UNIT + GAP) }}>
      <PanelChrome title={panel.title} titleItems={<span style={{ fontSize: 12, color: theme.colors.text.secondary }}>{range.note}</span>} width={width} height={height} padding={panel.type === 'table' ? 'none' : 'sm'} loadingState={LoadingState.Done}>
        {(innerWidth, innerHeight) => (
          <Catch onError={onError}>{series && <Visualization {...{ panel, series, range, theme }} width={innerWidth} height={innerHeight} />}</Catch>
        )}
      </PanelChrome>
    </div>
  );
}

function Head({ dashboard, variables }) {
  const box = { border: `1px solid ${theme.colors.border.medium}`, padding: '4px 8px', marginRight: 8, borderRadius: 2 };
  return (
    <div style={{ padding: '10px 16px', color: theme.colors.text.primary }}>
      <div style={{ fontSize: 20, marginBottom: 8 }}>{dashboard.title}</div>
      {dashboard.templating.list.filter(({ name }) => name !== 'langsmith').map(({ name, label }) => (
        <span key={name} style={box}><span style={{ color: theme.colors.text.link }}>{label}</span> {variables[name].isAll ? 'All' : variables[name].join(', ') || 'default'}</span>
      ))}
    </div>
  );
}

const nothing = { subscribe: () => ({ unsubscribe() {} }), pipe: () => nothing };
const eventBus = { publish() {}, getStream: () => nothing, subscribe: () => ({ unsubscribe() {} }), removeAllListeners() {}, newScopedBus: () => eventBus };

function App({ dashboard }) {
  const variables = variablesOf(dashboard, address);
  const panels = dashboard.panels.flatMap((panel) => (panel.type === 'row' ? [panel, ...(panel.panels ?? [])] : [panel]));
  const bottom = Math.max(...panels.map(({ gridPos }) => gridPos.y + gridPos.h));
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <PanelContextProvider value={{ eventsScope: 'page', eventBus, sync: () => 0 }}>
        <div id="dashboard" style={{ position: 'relative', width: WIDTH, height: HEAD + bottom * (UNIT + GAP) + GAP, background: theme.colors.background.canvas }}>
          <Head {...{ dashboard, variables }} />
          {panels.map((panel) => panel.type === 'row' ? (
            <div key={panel.id} style={{ position: 'absolute', top: HEAD + panel.gridPos.y * (UNIT + GAP) + 4, left: 12, color: theme.colors.text.primary, fontSize: 17, fontWeight: 500 }}>
              {panel.title}
            </div>
          ) : <Panel key={panel.id} {...{ panel, variables }} />)}
        </div>
      </PanelContextProvider>
    </ThemeContext.Provider>
  );
}

const answer = await fetch(`/dashboards/${address.get('board')}.json`);
const dashboard = await answer.json();
for (const panel of dashboard.panels.flatMap((one) => (one.type === 'row' ? one.panels ?? [] : [one])))
  reports.set(panel.id, { id: panel.id, title: panel.title, type: panel.type, errors: [], zeros: [] });
waiting = reports.size;
window.__isLoaded = () => waiting === 0;
window.__report = () => [...reports.values()].map((report) => ({ ...report, ...seen(document.getElementById(`panel-${report.id}`)) }));
createRoot(document.getElementById('root')).render(<App dashboard={dashboard} />);
