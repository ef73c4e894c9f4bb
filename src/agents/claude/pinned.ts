/** The version of Claude Code that this release was tested with: data, the same as in test/agents/package.json. */
import type { Pinned } from "../agent.ts"

export const PINNED: Pinned = { program: "claude", npm: "@anthropic-ai/claude-code", version: "2.1.197" }
