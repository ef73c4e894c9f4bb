/** This program as another version of it: built from a copy of the source in which the numbers differ. */
import { cp, mkdir, readFile, symlink, writeFile } from "node:fs/promises"
import { join } from "node:path"

const ROOT = join(import.meta.dir, "../..")

/** @param folder a new one @returns path of the program */
export async function otherBuild(
  folder: string,
  numbers: { readonly version: string; readonly protocol?: number },
): Promise<string> {
  await mkdir(folder, { recursive: true })
  await cp(join(ROOT, "src"), join(folder, "src"), { recursive: true })
  await cp(join(ROOT, "tsconfig.json"), join(folder, "tsconfig.json"))
  await symlink(join(ROOT, "node_modules"), join(folder, "node_modules"))
  const file = join(folder, "src/protocol/version.ts")
  const text = await readFile(file, "utf8")
  const changed = text
    .replace(/(DECAMP_VERSION = )"[^"]+"/, `$1"${numbers.version}"`)
    .replace(/(PROTOCOL_VERSION = )\d+/, `$1${numbers.protocol ?? 1}`)
  if (changed === text) throw new Error(`${file} has no numbers to change`)
  await writeFile(file, changed)
  const child = Bun.spawn([process.execPath, "build", "--compile", "src/main.ts", "--outfile", "decamp"], {
    cwd: folder,
    stdout: "ignore",
    stderr: "pipe",
  })
  if ((await child.exited) !== 0) throw new Error(await new Response(child.stderr).text())
  return join(folder, "decamp")
}
