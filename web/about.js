/*
 * What is known before the first message: the gateway's word about itself, and the city's name.
 * Where data must be attributed, the text stands on the map and, whole, in the Connection tab.
 */
import { byTest, linked, setShown, setText } from './dom.js';

const text = (value) => (typeof value === 'string' ? value.trim() : '');

/* {version, demo, fleet, attribution}; where there is no answer, what is usual. */
export async function fetchAbout(url) {
  let about = {};
  try {
    const response = await fetch(url);
    if (response.ok) about = await response.json();
  } catch {
    // the page works without
  }
  return {
    version: text(about?.version),
    demo: about?.demo === true,
    fleet: text(about?.fleet) || 'fleet',
    attribution: text(about?.attribution),
  };
}

function credit(attribution) {
  setShown(byTest('credit'), attribution !== '');
  setShown(byTest('attribution'), attribution !== '');
  const [summary, whole] = byTest('credit').children;
  setText(summary, `Data: ${attribution}`);
  whole.replaceChildren(...linked(attribution));
  byTest('attribution').replaceChildren(...linked(attribution));
}

export function introduce({ version, demo, fleet, attribution }, cityName) {
  document.title = cityName === '' ? 'Tramline' : `Tramline · ${cityName}`;
  setText(byTest('city'), cityName);
  setText(byTest('channel'), fleet);
  setText(byTest('version'), `Tramline ${version}${demo ? ', with an invented city' : ''}`);
  credit(attribution);
}
