// Serves the page's files as they lie here, and everything else from a running daemon: `node dev-server.mjs http://127.0.0.1:7711 [PORT]`.
import { createServer, request as ask } from 'node:http';
import { serveFile } from './files.mjs';

const [daemon = 'http://127.0.0.1:7711', port = '8000'] = process.argv.slice(2);

const own = [`127.0.0.1:${port}`, `localhost:${port}`];

createServer(async (request, response) => {
  // The daemon sees no origin of what is passed on, so pages of other sites are refused here.
  if (!own.includes(request.headers.host) || !['same-origin', 'none', undefined].includes(request.headers['sec-fetch-site'])) return response.writeHead(403).end();
  if (await serveFile(request, response)) return undefined;
  const { host, origin, 'sec-fetch-site': _, ...headers } = request.headers;
  const passed = ask(new URL(request.url, daemon), { method: request.method, headers }, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    answer.pipe(response);
  });
  passed.on('error', () => response.destroy());
  response.on('close', () => passed.destroy());
  return request.pipe(passed);
}).listen(Number(port), '127.0.0.1', () => console.log(`http://127.0.0.1:${port}`));
