/** The version of opencode that this release was tested with: data, the same as in test/agents/package.json. */
import type { Pinned } from "../agent.ts"

export const PINNED: Pinned = { program: "opencode", npm: "opencode-ai", version: "1.18.33" }
