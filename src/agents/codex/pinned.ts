/** The version of Codex that this release was tested with: data, the same as in test/agents/package.json. */
import type { Pinned } from "../agent.ts"

export const PINNED: Pinned = { program: "codex", npm: "@openai/codex", version: "0.169.0" }
