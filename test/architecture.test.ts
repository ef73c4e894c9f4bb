/** The folder table of ARCHITECTURE.md: who may import whom. */
import { expect, test } from "bun:test"
import { dirname, join } from "node:path"

const MAY_IMPORT: Record<string, readonly string[]> = {
  protocol: [],
  lib: ["protocol"],
  handoff: ["protocol"],
  client: ["protocol"],
  checkpoint: ["protocol", "lib"],
  agents: ["protocol", "lib"],
  storage: ["protocol", "lib"],
  provision: ["protocol", "lib"],
  host: ["protocol", "lib", "handoff", "client", "checkpoint", "agents", "storage"],
  gateway: ["protocol", "lib", "handoff", "client", "storage", "provision"],
  cli: ["protocol", "lib", "client"],
}
const IMPORT = /^\s*(?:import|export)\b[^;"']*?["'](\.[^"']+)["']|\bimport\(["'](\.[^"']+)["']\)/gm

interface Edge {
  readonly from: string
  readonly to: string
}

const edges: Edge[] = []
const texts = new Map<string, string>()
for await (const from of new Bun.Glob("src/**/*.ts").scan(".")) {
  const text = await Bun.file(from).text()
  texts.set(from, text)
  for (const match of text.matchAll(IMPORT)) edges.push({ from, to: join(dirname(from), match[1] ?? match[2] ?? "") })
}
const isTest = (path: string): boolean => path.endsWith(".test.ts") || path.endsWith(".contract.ts")
const folder = (path: string): string => (path.split("/")[2] === undefined ? "main" : (path.split("/")[1] ?? ""))

test("the scan sees the code base", () => {
  expect(edges.length).toBeGreaterThan(200)
})

test("every folder of src is in the table", () => {
  const folders = new Set([...texts.keys()].map(folder))
  expect([...folders].filter((name) => name !== "main" && MAY_IMPORT[name] === undefined)).toEqual([])
})

test("folders import only what the table allows", () => {
  const wrong = edges.filter(({ from, to }) => {
    if (isTest(from) || folder(from) === folder(to)) return false
    if (folder(from) === "main") return !to.endsWith("/start.ts")
    return !MAY_IMPORT[folder(from)]?.includes(folder(to))
  })
  expect(wrong).toEqual([])
})

test("source never imports a test or a contract suite", () => {
  expect(edges.filter(({ from, to }) => !isTest(from) && isTest(to))).toEqual([])
})

test("agents never import each other", () => {
  const agentOf = (path: string): string => /^src\/agents\/([^/]+)\//.exec(path)?.[1] ?? ""
  const wrong = edges.filter(
    ({ from, to }) => agentOf(from) !== "" && agentOf(to) !== "" && agentOf(from) !== agentOf(to),
  )
  expect(wrong).toEqual([])
})

test("the name of an agent appears only in its folder, in the schema's list and where it is wired", () => {
  const allowed = [
    "src/protocol/manifest.ts",
    "src/protocol/gateway-api.ts",
    "src/protocol/local-api.ts",
    "src/host/start.ts",
  ]
  const naming = [...texts].filter(
    ([path, text]) =>
      !path.startsWith("src/agents/") &&
      !isTest(path) &&
      !allowed.includes(path) &&
      /opencode|claude|codex/i.test(withoutComments(text)),
  )
  expect(naming.map(([path]) => path)).toEqual([])
})

function withoutComments(text: string): string {
  return text.replaceAll(/\/\*[\s\S]*?\*\//g, "").replaceAll(/^\s*\/\/.*$/gm, "")
}
