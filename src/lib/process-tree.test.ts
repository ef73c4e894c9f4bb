/** Real processes: shells that start sleeping children. */
import { afterEach, expect, test } from "bun:test"
import { realpathSync } from "node:fs"
import { tmpdir } from "node:os"
import { descendantsOf, endProcesses, environmentOf, parsePs, processTree, signalProcess } from "./process-tree.ts"

const started: Bun.Subprocess[] = []
afterEach(async () => {
  for (const child of started.splice(0)) {
    child.kill("SIGKILL")
    await child.exited
  }
})

const shell = async (script: string, env: Record<string, string> = {}): Promise<number> => {
  const child = Bun.spawn(["/bin/sh", "-c", script], {
    cwd: tmpdir(),
    env: { PATH: process.env["PATH"] ?? "", ...env },
    stdout: "pipe",
    stderr: "ignore",
  })
  started.push(child)
  // The script says that its children are there.
  const reader = child.stdout.getReader()
  await reader.read()
  reader.releaseLock()
  return child.pid
}

test("the table knows parents, groups, working directories and when each began", async () => {
  const before = Date.now()
  const pid = await shell("sleep 60 & sleep 61 & echo ready; wait")
  const tree = await processTree()
  expect(tree.find((each) => each.pid === process.pid)).toMatchObject({ pid: process.pid, ppid: process.ppid })
  const below = descendantsOf(tree, [pid])
  expect(below.map(({ argv }) => argv.join(" ")).toSorted()).toEqual(["sleep 60", "sleep 61"])
  for (const each of below) {
    expect(each).toMatchObject({ ppid: pid, cwd: realpathSync(tmpdir()) })
    expect(Math.abs((each.startedAtMs ?? 0) - before)).toBeLessThan(3_000)
  }
  expect(descendantsOf(tree, [process.pid]).map((each) => each.pid)).toContain(below[0]?.pid ?? 0)
  for (const each of below) await signalProcess(each, "SIGKILL")
})

test("processes are ended by TERM, by KILL when they do not listen, and none that only has the number", async () => {
  const deaf = await shell("trap '' TERM; echo ready; while :; do sleep 0.1; done")
  const good = await shell("echo ready; exec sleep 60")
  const other = await shell("echo ready; exec sleep 60")
  const tree = await processTree(() => false)
  const targets = tree.filter(({ pid }) => pid === deaf || pid === good)
  const reused = tree.filter(({ pid }) => pid === other).map((each) => ({ ...each, incarnation: "0" }))
  expect(await signalProcess(reused[0] ?? { pid: 0, incarnation: "" }, "SIGKILL")).toBe(false)
  const startedAt = performance.now()
  expect(await endProcesses([...targets, ...reused], { graceMs: 300 })).toEqual([])
  expect(performance.now() - startedAt).toBeGreaterThan(290)
  const left = (await processTree(() => false)).map(({ pid }) => pid)
  expect(left).not.toContain(deaf)
  expect(left).not.toContain(good)
  expect(left).toContain(other)
})

test("the environment that a process was started with can be asked by name", async () => {
  const pid = await shell("echo ready; exec sleep 60", { DECAMP_TEST_MARK: "one" })
  expect(await environmentOf(pid, ["DECAMP_TEST_MARK", "DECAMP_NONE"])).toEqual(new Map([["DECAMP_TEST_MARK", "one"]]))
  expect(await environmentOf(2 ** 22 + 1, ["PATH"])).toBeNull()
})

test("what ps prints on macOS is read, ended processes left out", () => {
  const text = [
    "  501   1   501 Ss   Mon Nov 23 05:02:11 2026     /bin/zsh -l",
    "  777 501   777 Z    Sun Nov  1 00:00:00 2026     (sleep)",
    " 1234 501  1200 S+   Sun Nov  1 00:00:00 2026     opencode run hello world",
  ].join("\n")
  expect(parsePs(text)).toEqual([
    {
      pid: 501,
      ppid: 1,
      pgid: 501,
      argv: ["/bin/zsh", "-l"],
      cwd: null,
      startedAtMs: Date.UTC(2026, 10, 23, 5, 2, 11),
      incarnation: "Mon Nov 23 05:02:11 2026",
    },
    expect.objectContaining({ pid: 1234, ppid: 501, pgid: 1200, argv: ["opencode", "run", "hello", "world"] }),
  ])
})
