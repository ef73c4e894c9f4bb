import { expect, test } from "bun:test"
import { chmod, mkdir, mkdtemp, readFile, realpath, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { addTurn, rolloutPath, threadId, writeRollout } from "../../../test/support/codex-rollouts.ts"
import type { AgentScope } from "../agent.ts"
import { codexAgent } from "./agent.ts"

test("a session goes into a file with its sub-agents and out of it elsewhere, also over an older state of itself", async () => {
  const folder = await realpath(await mkdtemp(join(tmpdir(), "decamp-codex-")))
  try {
    await mkdir(join(folder, "bin"))
    await writeFile(join(folder, "bin/codex"), "#!/bin/sh\necho codex-cli 0.169.0\n")
    await chmod(join(folder, "bin/codex"), 0o755)
    const place = async (name: string): Promise<AgentScope> => {
      const topLevel = join(folder, name, "proj")
      await mkdir(topLevel, { recursive: true })
      const env = { HOME: join(folder, name), PATH: `${join(folder, "bin")}:/bin:/usr/bin` }
      return { env, topLevel, excluded: [], rootCommit: null, originUrl: null }
    }
    const [here, there] = [await place("a"), await place("b")]
    const home = join(folder, "a/.codex")
    for (const n of [1, 2, 3, 4]) {
      const parent = n === 2 || n === 3 ? { parent: n - 1 } : {}
      await writeRollout({ home, n, directory: here.topLevel, turns: 1, ...parent })
    }
    const agent = codexAgent()
    const file = join(folder, "session")
    const written = await agent.exportFile(here, threadId(1), file)
    expect(written.map(({ id }) => id).toSorted()).toEqual([1, 2, 3].map(threadId))
    expect(await agent.recognizes(file)).toBe(true)
    expect(await agent.recognizes(rolloutPath(home, 1))).toBe(false)
    const brought = await agent.importFile(there, file, join(folder, "undo"))
    expect(brought.map(({ outcome }) => outcome)).toEqual(["moved", "moved", "moved"])
    const arrived = rolloutPath(join(folder, "b/.codex"), 1)
    const text = await readFile(arrived, "utf8")
    expect(text).toBe((await readFile(rolloutPath(home, 1), "utf8")).replaceAll(here.topLevel, there.topLevel))
    await addTurn(arrived, { n: 1, directory: there.topLevel, turn: 7 })
    await agent.importFile(there, file, join(folder, "undo-2"))
    expect(await readFile(arrived, "utf8")).toBe(text)
    await expect(agent.exportFile(here, threadId(9), file)).rejects.toMatchObject({ code: "unknown_session" })
    await writeFile(file, (await readFile(file)).subarray(0, -20))
    await expect(agent.importFile(there, file, join(folder, "undo-3"))).rejects.toMatchObject({ code: "damaged_data" })
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
})
