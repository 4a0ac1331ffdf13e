// Debian's Chromium, driven by playwright-core.
import { spawnSync } from 'node:child_process';
import { chromium } from 'playwright-core';

const PLACES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

/** Ubuntu has a program of this name that only tells how to install one. @param {string} place */
const starts = (place) => spawnSync(place, ['--version'], { stdio: 'ignore' }).status === 0;

export const program = process.env.SAMOVAR_TEST_CHROMIUM ?? PLACES.find(starts);

export const launch = () => chromium.launch({ executablePath: program, args: FLAGS });

/** A page whose complaints are collected. */
export async function open(browser, { width = 1280, height = 800, dark = false, reduced = false, key = '' } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: dark ? 'dark' : 'light', reducedMotion: reduced ? 'reduce' : 'no-preference' });
  if (key) await context.addInitScript((key) => sessionStorage.setItem('samovar.key', key), key);
  const page = await context.newPage();
  const complaints = [];
  // What the page expects to be refused is no complaint: answers with a status are told on the page.
  page.on('console', (message) => { if (message.type() === 'error' && !/Failed to load resource/.test(message.text())) complaints.push(message.text()); });
  page.on('pageerror', (error) => complaints.push(String(error)));
  await context.exposeFunction('complain', (text) => complaints.push(text));
  await context.addInitScript(() => {
    addEventListener('securitypolicyviolation', (event) => window.complain(`CSP: ${event.violatedDirective} ${event.blockedURI}`));
    globalThis.ran = () => window.complain('a script of someone else ran');
  });
  return { page, context, complaints };
}
