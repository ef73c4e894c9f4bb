import { expect, test } from "bun:test"
import { join } from "node:path"
import { claudeAgent } from "../agents/claude/agent.ts"
import { codexAgent } from "../agents/codex/agent.ts"
import { opencodeAgent } from "../agents/opencode/agent.ts"
import { shown } from "../agents/versions.ts"

const AGENTS = [opencodeAgent(), claudeAgent(), codexAgent()]

test("the versions that a host gets are those that the tests drive", async () => {
  const file = join(import.meta.dir, "../../test/agents/package.json")
  const { dependencies }: { dependencies: unknown } = await Bun.file(file).json()
  const pinned = Object.fromEntries(AGENTS.map(({ pinned: { npm, version } }) => [npm, version]))
  expect(pinned).toEqual(Object(dependencies))
})

test("what an agent prints for its pinned version is read as that version", () => {
  const printed = ["1.18.33", "2.1.197 (Claude Code)", "codex-cli 0.169.0"]
  for (const [index, agent] of AGENTS.entries()) {
    const parsed = agent.parseVersion(printed[index] ?? "")
    expect(parsed === null ? null : shown(parsed)).toBe(agent.pinned.version)
  }
})
