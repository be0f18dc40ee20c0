// Takes a picture of a dashboard and prints what its panels show, as JSON: node shoot.mjs <address> [<file.png>]
import puppeteer from 'puppeteer-core';

const [, , address, file] = process.argv;
const PATIENCE = 300_000; // milliseconds; a busy machine draws slowly
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--hide-scrollbars'],
  protocolTimeout: PATIENCE,
});
try {
  const page = await browser.newPage();
  await page.setViewport({ width: 1600, height: 1200 });
  const errors = [];
  page.on('pageerror', (error) => errors.push(String(error.stack ?? error)));
  await page.goto(address, { waitUntil: 'domcontentloaded', timeout: PATIENCE });
  await page.waitForFunction('window.__isLoaded?.()', { timeout: PATIENCE });
  // Grafana's graphs are drawn in steps: wait until nothing has changed for a while, in the page's own time.
  const height = await page.evaluate('document.getElementById("dashboard").offsetHeight');
  await page.setViewport({ width: 1600, height });
  await page.evaluate(
    () =>
      new Promise((resolve) => {
        let before = '', same = 0;
        const look = () => {
          const after = document.getElementById('dashboard').innerHTML;
          same = after === before ? same + 1 : 0;
          before = after;
          same < 20 ? requestAnimationFrame(look) : resolve();
        };
        look();
      }),
  );
  if (file) await page.screenshot({ path: file });
  console.log(JSON.stringify({ errors, panels: await page.evaluate('window.__report()') }));
} finally {
  await browser.close();
}
