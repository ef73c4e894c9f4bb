/** A terminal of our own for an agent's interface: one tmux server for each test, on a socket in the test's folder. */
import { join } from "node:path"
import { run } from "../../src/lib/process.ts"

export interface Terminal extends AsyncDisposable {
  /** Types text, then Enter. */
  submit(text: string): Promise<void>
  /** Keys by tmux's names: `Enter`, `Up`, `C-c`. */
  keys(...names: string[]): Promise<void>
  screen(): Promise<string>
  /** Waits until the screen matches; throws with the screen when it does not. */
  until(pattern: RegExp, timeoutMs?: number): Promise<string>
  readonly pid: () => Promise<number>
}

/** Starts a program in a window of 140 × 45. */
export async function openTerminal(
  folder: string,
  argv: readonly string[],
  options: { readonly cwd: string; readonly env: Readonly<Record<string, string>> },
): Promise<Terminal> {
  const socket = join(folder, `tmux-${crypto.randomUUID().slice(0, 8)}`)
  const env = { PATH: process.env["PATH"] ?? "/usr/bin:/bin", LC_ALL: "C.UTF-8", HOME: folder }
  const tmux = async (...args: string[]): Promise<string> => {
    const result = await run(["tmux", "-f", "/dev/null", "-S", socket, ...args], { env, timeoutMs: 20_000 })
    if (result.exitCode !== 0) throw new Error(`tmux ${args[0]} ended with ${result.exitCode}: ${result.stderr}`)
    return new TextDecoder().decode(result.stdout)
  }
  const variables = Object.entries(options.env).map(([name, value]) => `${name}=${value}`)
  const program = ["env", "-i", "LC_ALL=C.UTF-8", "COLORTERM=truecolor", ...variables, ...argv]
  await tmux("new-session", "-d", "-x", "140", "-y", "45", "-c", options.cwd, "--", ...program)
  const screen = async (): Promise<string> => await tmux("capture-pane", "-p")
  return {
    screen,
    async submit(text) {
      for (let tries = 1; ; tries += 1) {
        await tmux("send-keys", "-l", text)
        // An interface that is still starting swallows what is typed.
        if (await shows(screen, text)) break
        if (tries === 3) throw new Error(`what was typed is not on the screen:\n${await screen()}`)
      }
      // Typed at once with the text, Enter would be part of a paste, and some interfaces take theirs for one for a while.
      await Bun.sleep(500)
      const before = await screen()
      await tmux("send-keys", "Enter")
      await Bun.sleep(1_500)
      if ((await screen()) === before) await tmux("send-keys", "Enter")
    },
    keys: async (...names) => void (await tmux("send-keys", ...names)),
    async until(pattern, timeoutMs = 30_000) {
      const endMs = Date.now() + timeoutMs
      for (;;) {
        const shown = await screen()
        if (pattern.test(shown)) return shown
        if (Date.now() > endMs) throw new Error(`no ${pattern} on the screen:\n${shown}`)
        await Bun.sleep(200)
      }
    },
    pid: async () => Number((await tmux("display-message", "-p", "#{pane_pid}")).trim()),
    async [Symbol.asyncDispose]() {
      await tmux("kill-server").catch(() => "")
    },
  }
}

/** Whether the end of a text comes to stand on the screen, wherever its lines break. */
async function shows(screen: () => Promise<string>, text: string): Promise<boolean> {
  const plain = (shown: string): string => shown.replaceAll(/[^A-Za-z0-9]/g, "")
  const end = plain(text).slice(-12)
  for (let waited = 0; waited < 4_000; waited += 200) {
    await Bun.sleep(200)
    if (plain(await screen()).includes(end)) return true
  }
  return false
}
