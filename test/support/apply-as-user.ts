/** Applies a checkpoint as the user that this process runs as, undoes it when that fails, and prints how it went. */
import { readFile } from "node:fs/promises"
import { join } from "node:path"
import { applyCode } from "../../src/checkpoint/apply.ts"
import { backupCode, restoreBackup } from "../../src/checkpoint/backup.ts"
import { verifyCode } from "../../src/checkpoint/verify.ts"
import { toAppError } from "../../src/protocol/errors.ts"
import { fileBlobs } from "./file-blobs.ts"

const { to, code, root } = JSON.parse(await readFile(process.argv[2] ?? "", "utf8"))
const steps = (): void => undefined
const common = {
  directory: to,
  code,
  source: fileBlobs(join(root, "blobs")).source,
  scratch: join(root, "scratch"),
  steps,
}

async function attempt(): Promise<{ code: string; message: string }> {
  const backup = await backupCode({ ...common, atMs: Date.now() })
  try {
    await applyCode({ ...common, backup })
    await verifyCode(common)
    return { code: "done", message: "" }
  } catch (error) {
    await restoreBackup({ backup, code, scratch: common.scratch, steps })
    const { code: kind, message } = toAppError(error)
    return { code: kind, message }
  }
}

console.log(JSON.stringify(await attempt()))
