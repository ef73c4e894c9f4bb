/** Programs of this user that run now, known by their command line. */
import { basename } from "node:path"
import { processTree, type TreeProcess } from "./process-tree.ts"

/** Live processes of this user whose command line satisfies `matches`. */
export async function liveProcesses(matches: (argv: readonly string[]) => boolean): Promise<TreeProcess[]> {
  return (await processTree(matches)).filter(({ argv }) => matches(argv))
}

/** Name of the program that a command line starts, also when an interpreter (node, bun) starts it. */
export function programName(argv: readonly string[]): string {
  const first = basename(argv[0] ?? "")
  return /^(node|bun)(js|\d*)$/.test(first) && argv[1] !== undefined ? basename(argv[1]) : first
}
