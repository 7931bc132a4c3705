/*
 * Light, dark, or as the system has it, kept in this browser. A classic script, not a module: it
 * runs before the first paint, so that a dark page never flashes white. Others hear of a change by
 * the event `themechange` of the document.
 */
(() => {
  'use strict';
  const KEY = 'tramline-theme';
  const CHOICES = ['auto', 'light', 'dark'];
  const WORDS = { auto: 'Theme: as the system', light: 'Theme: light', dark: 'Theme: dark' };
  const root = document.documentElement;

  function stored() {
    try {
      const choice = localStorage.getItem(KEY);
      return CHOICES.includes(choice) ? choice : 'auto';
    } catch {
      return 'auto'; // storage is forbidden
    }
  }

  function store(choice) {
    try {
      localStorage.setItem(KEY, choice);
    } catch {
      // it holds until the page is left
    }
  }

  let choice = stored();
  const system = matchMedia('(prefers-color-scheme: dark)');
  const apply = () => {
    root.dataset.theme = choice !== 'auto' ? choice : system.matches ? 'dark' : 'light';
    const button = document.querySelector('[data-testid="theme"]');
    if (button) {
      button.setAttribute('aria-label', WORDS[choice]);
      button.title = WORDS[choice];
    }
    document.dispatchEvent(new Event('themechange'));
  };

  apply();
  system.addEventListener('change', apply);
  addEventListener('DOMContentLoaded', () => {
    apply();
    document.querySelector('[data-testid="theme"]').addEventListener('click', () => {
      choice = CHOICES[(CHOICES.indexOf(choice) + 1) % CHOICES.length];
      store(choice);
      apply();
    });
  });
})();
