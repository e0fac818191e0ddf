// A person at RabbitMQ's console: logs in, looks at the queues, publishes to one and gets the message back. Prints what
// was seen as JSON.
//
//   node console.js BROWSER URL USER SECRET VHOST QUEUE TEXT
const { chromium } = require('playwright-core');

const [executablePath, url, username, password, vhost, queue, text] = process.argv.slice(2);

async function main() {
  const seen = { errors: [], failed: [], asked: [] };
  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] });
  try {
    // What the browser itself asks for, before there is a page that could.
    const context = await browser.newContext({ httpCredentials: { username, password } });
    const page = await context.newPage();
    page.on('pageerror', (error) => seen.errors.push(String(error)));
    page.on('console', (message) => {
      if (message.text().startsWith('Uncaught error')) seen.errors.push(message.text());
    });
    page.on('response', (response) => {
      const path = new URL(response.url()).pathname;
      seen.asked.push(`${response.request().method()} ${path}`);
      if (response.status() >= 400) seen.failed.push(`${response.status()} ${path}`);
    });
    page.setDefaultTimeout(30000);
    await page.goto(url);
    await page.fill('input[name=username]', username);
    await page.fill('input[name=password]', password);
    await page.click('input[type=submit]');
    await page.waitForSelector('#main h1');
    seen.overview = await page.innerText('#main');
    seen.header = await page.innerText('#header');
    const go = async (hash, ready) => {
      await page.evaluate((to) => { window.location.hash = to; }, hash);
      await page.waitForFunction((words) => document.querySelector('#main')?.innerText.includes(words), ready);
      return page.innerText('#main');
    };
    seen.exchanges = await go('#/exchanges', 'amq.topic');
    seen.connections = await go('#/connections', 'Connections');
    seen.channels = await go('#/channels', 'Channels');
    seen.queues = await go('#/queues', queue);
    await page.click(`#main a:text-is(${JSON.stringify(queue)})`);
    await page.waitForFunction((name) => document.querySelector('#main h1')?.innerText.includes(name), queue);
    seen.queue = await page.innerText('#main');
    const open = async (title) => {
      const section = page.locator('#main div.section-hidden, #main div.section-invisible', { hasText: title });
      await section.locator('h2').first().click();
    };
    await open('Publish message');
    await page.fill('form[action="#/exchanges/publish"] textarea[name=payload]', text);
    await page.click('form[action="#/exchanges/publish"] input[type=submit]');
    await page.waitForSelector('.form-popup-info');
    seen.published = await page.innerText('.form-popup-info');
    await open('Get messages');
    await page.click('form[action="#/queues/get"] input[type=submit]');
    await page.waitForSelector('#msg-wrapper pre.msg-payload');
    seen.got = await page.innerText('#msg-wrapper pre.msg-payload');
    seen.vhost = vhost;
    console.log(JSON.stringify(seen));
  } catch (error) {
    console.error(JSON.stringify(seen));
    throw error;
  } finally {
    await browser.close();
  }
}

main().catch((error) => { console.error(error); process.exit(1); });
