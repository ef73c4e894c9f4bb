/** The hand of a person at a browser: headless Chromium (Debian's) by playwright-core. */
import { existsSync } from "node:fs"
import { chromium, type Page } from "playwright-core"

const CHROMIUM = "/usr/bin/chromium"

export function hasChromium(): boolean {
  return existsSync(CHROMIUM)
}

/** Opens the page of a device code, confirms the code, signs in as `user` and agrees; or refuses. */
export async function confirmDevice(address: string, user: string, decision: "agree" | "refuse"): Promise<string> {
  const browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"], timeout: 60_000 })
  try {
    const page = await (await browser.newContext()).newPage()
    await page.goto(address)
    await pressed(page, decision)
    if (decision === "refuse") return await page.innerText("body")
    await page.fill('input[name="login"]', user)
    await page.fill('input[name="password"]', "any")
    await submitted(page)
    // The page that asks whether the program may.
    await submitted(page)
    return await page.innerText("body")
  } finally {
    await browser.close()
  }
}

async function pressed(page: Page, decision: "agree" | "refuse"): Promise<void> {
  if (decision === "agree") return await submitted(page)
  await Promise.all([page.waitForLoadState("load"), page.click('[name="abort"]')])
}

async function submitted(page: Page): Promise<void> {
  const before = page.url()
  await Promise.all([
    page.waitForURL((url) => url.href !== before),
    page.click('button[type="submit"]:not([name="abort"])'),
  ])
}
