// The page's files as the daemon serves them, for the tools of this folder.
import { readFile } from 'node:fs/promises';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';

const PAGE = fileURLToPath(new URL('../page/', import.meta.url));
const TYPES = { '.html': 'text/html; charset=utf-8', '.css': 'text/css; charset=utf-8', '.js': 'text/javascript; charset=utf-8', '.mjs': 'text/javascript; charset=utf-8', '.svg': 'image/svg+xml' };
const policy = (await readFile(new URL('../policy.txt', import.meta.url), 'utf8')).trim();

/** Answers a request for a file of the page; false for all others. */
export async function serveFile(request, response) {
  const path = request.url.split('?')[0];
  const isPage = path === '/' && request.headers.accept?.includes('text/html');
  if (request.method !== 'GET' || !(isPage || path.startsWith('/page/'))) return false;
  const name = isPage ? 'index.html' : normalize(path.slice('/page/'.length));
  const bytes = name.startsWith('..') ? null : await readFile(join(PAGE, name)).catch(() => null);
  const headers = { 'content-security-policy': policy, 'x-content-type-options': 'nosniff', 'referrer-policy': 'no-referrer', 'cache-control': 'no-cache' };
  if (bytes) response.writeHead(200, { ...headers, 'content-type': TYPES[extname(name)] ?? 'application/octet-stream' }).end(bytes);
  else response.writeHead(404, headers).end('{}');
  return true;
}
