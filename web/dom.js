/*
 * Making and changing elements. Text goes in as text: nothing here, and nothing in this page,
 * parses HTML that came from elsewhere.
 */

export const byTest = (name) => document.querySelector(`[data-testid="${name}"]`);

/* el('p', {class: 'x', 'aria-label': 'y', onclick: f}, 'text', child, ...) */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, '');
    else if (value !== false && value !== null) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/* Touch the page only where something changed. */
export function setText(node, text) {
  const value = String(text);
  if (node.textContent !== value) node.textContent = value;
}

export function setShown(node, shown) {
  if (node.hidden === shown) node.hidden = !shown;
}

const URL_IN_TEXT = /https?:\/\/[^\s<>"')]+[^\s<>"').,;]/g;

/* Text with its web addresses as links. */
export function linked(text) {
  const parts = [];
  let from = 0;
  for (const found of text.matchAll(URL_IN_TEXT)) {
    parts.push(text.slice(from, found.index));
    parts.push(el('a', { href: found[0], rel: 'noopener noreferrer', target: '_blank' }, found[0]));
    from = found.index + found[0].length;
  }
  parts.push(text.slice(from));
  return parts.filter((part) => part !== '');
}

/* A line's badge in its colours. */
export function paintBadge(node, line, colours) {
  setText(node, line === '' ? '–' : line);
  node.style.backgroundColor = colours.fill;
  node.style.color = colours.ink;
}

export const reducedMotion = matchMedia('(prefers-reduced-motion: reduce)');
