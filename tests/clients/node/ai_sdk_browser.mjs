// Chats on a page in a real browser: ai_sdk_browser.mjs CHROMIUM URL FOLDER. Loads the page again in the middle of an
// answer, waits for the rest, says something more. Prints what the page shows at each stage; the browser's files and a
// picture of the end go to FOLDER.
import { join } from 'node:path'
import { chromium } from 'playwright-core'

const [executablePath, url, folder] = process.argv.slice(2)
const LIMIT = 30_000
const args = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
]
const browser = await chromium.launchPersistentContext(join(folder, 'profile'), { executablePath, args })
browser.setDefaultTimeout(LIMIT)
const page = await browser.newPage()

async function show(stage) {
  const messages = await page.locator('li').evaluateAll((items) =>
    items.map((item) => ({ role: item.dataset.role, text: item.textContent })))
  const errors = await page.locator('[role=alert]').allTextContents()
  console.log(JSON.stringify({ stage, messages, errors, status: await page.locator('output').textContent() }))
}

// Loads the page; it asks at once whether there is something to resume.
async function load(by) {
  await Promise.all([page.waitForResponse((response) => response.url().endsWith('/stream')), by()])
}

async function say(text) {
  await page.locator('input').fill(text)
  await page.locator('button').click()
}

const answers = page.locator('li[data-role=assistant]')
const isReady = () => page.locator('output', { hasText: 'ready' }).waitFor()

await load(() => page.goto(url))
await isReady()
await say('go')
await answers.filter({ hasText: 'water' }).waitFor()
await show('middle')
await load(() => page.reload())
await answers.filter({ hasText: 'below it.' }).waitFor()
await isReady()
await show('whole')
await say('again')
await answers.nth(1).filter({ hasText: 'below it.' }).waitFor()
await isReady()
await show('more')
await load(() => page.reload())
await isReady()
await show('later')
await page.screenshot({ path: join(folder, 'later.png') })
await browser.close()
