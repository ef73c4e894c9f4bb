/** Who may import whom, from the text of the source: a checker that silently sees no modules would be green for nothing. */
import { expect, test } from "bun:test"
import { dirname, join } from "node:path"

const ROOT = join(import.meta.dir, "..")

const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  protocol: [],
  lib: ["protocol"],
  handoff: ["protocol"],
  client: ["protocol"],
  "sign-in": ["protocol", "lib", "client"],
  checkpoint: ["protocol", "lib"],
  agents: ["protocol", "lib"],
  storage: ["protocol", "lib"],
  provision: ["protocol", "lib"],
  host: ["protocol", "lib", "handoff", "client", "sign-in", "checkpoint", "agents", "storage"],
  gateway: ["protocol", "lib", "handoff", "client", "storage", "provision"],
  cli: ["protocol", "lib", "client", "sign-in"],
  hook: ["agents", "lib"],
}

/** Files outside an agent's folder that may name it: the enum, the wire's list of it, variables of its stores, the wiring. */
const MAY_NAME_AGENTS = new Set([
  "src/protocol/manifest.ts",
  "src/protocol/gateway-api.ts",
  "src/protocol/local-api.ts",
  "src/host/start.ts",
  "src/hook/start.ts",
])

const IMPORT = /^\s*(?:import|export)\b[^;"']*?["'](\.[^"']+)["']|\bimport\(\s*["'](\.[^"']+)["']\s*\)/gm
const IS_TEST = /\.(test|contract)\.ts$/

interface Edge {
  readonly from: string
  readonly to: string
}

const paths = [...new Bun.Glob("src/**/*.ts").scanSync({ cwd: ROOT })].toSorted()
const texts = new Map(
  await Promise.all(paths.map(async (path) => [path, await Bun.file(join(ROOT, path)).text()] as const)),
)
const edges: Edge[] = [...texts].flatMap(([from, text]) =>
  [...text.matchAll(IMPORT)].map((match) => ({ from, to: join(dirname(from), match[1] ?? match[2] ?? "") })),
)

function folderOf(path: string): string {
  const parts = path.split("/")
  return parts.length === 2 ? "main" : (parts[1] ?? "")
}

function isAllowed({ from, to }: Edge): boolean {
  // Tests may use test/support and the folders that their own folder may use; they are not part of the program.
  if (IS_TEST.test(from) && !to.startsWith("src/")) return true
  if (!to.startsWith("src/")) return false
  if (folderOf(from) === "main") return /^src\/([a-z]+\/start|gateway\/serve)\.ts$/.test(to)
  return folderOf(from) === folderOf(to) || (MAY_IMPORT[folderOf(from)]?.includes(folderOf(to)) ?? false)
}

test("the scan sees the code base", () => {
  expect(paths.length).toBeGreaterThan(50)
  expect(edges.length).toBeGreaterThan(100)
})

test("every folder of the source stands in the table", () => {
  const unknown = paths.map(folderOf).filter((folder) => folder !== "main" && MAY_IMPORT[folder] === undefined)
  expect(unknown).toEqual([])
})

test("folders import only what the table allows", () => {
  expect(edges.filter((edge) => !isAllowed(edge))).toEqual([])
})

test("no source imports a test or a contract suite", () => {
  expect(edges.filter(({ from, to }) => IS_TEST.test(to) && !IS_TEST.test(from))).toEqual([])
})

test("the folders of agents never import each other", () => {
  // What agents with transcripts of lines have in common is no agent's, and imports none.
  const agentOf = (path: string): string | undefined => /^src\/agents\/(?!transcript\/)([^/]+)\//.exec(path)?.[1]
  expect(
    edges.filter(({ from, to }) => agentOf(to) !== undefined && agentOf(from) !== agentOf(to)).filter(isInsideAgents),
  ).toEqual([])
})

function isInsideAgents({ from }: Edge): boolean {
  return from.startsWith("src/agents/")
}

test("an agent is named only in its own folder", () => {
  const found = [...texts]
    .filter(([path]) => !path.startsWith("src/agents/") && !MAY_NAME_AGENTS.has(path) && !IS_TEST.test(path))
    .flatMap(([path, text]) =>
      text
        .split("\n")
        .filter((line) => /opencode|\bclaude\b|\bcodex\b/i.test(line) && !/^\s*(\/?\*|\/\/)/.test(line))
        .map((line) => `${path}: ${line.trim()}`),
    )
  expect(found).toEqual([])
})
