import { afterAll, afterEach } from "bun:test"
import { Database } from "bun:sqlite"
import { cp } from "node:fs/promises"
import { join } from "node:path"
import { endAll, folder, removeAll } from "../../test/support/gateway.ts"
import { backupContract } from "./backup.contract.ts"

afterEach(endAll)
afterAll(removeAll)

backupContract("SQLite", {
  make: async () => ({}),
  async backup({ stateDir }) {
    const saved = await folder("saved")
    const db = new Database(join(stateDir, "gateway.db"), { readonly: true })
    db.run(`VACUUM INTO '${join(saved, "gateway.db")}'`)
    db.close()
    // After the database: nothing that it names is missing.
    await cp(join(stateDir, "blobs"), join(saved, "blobs"), { recursive: true })
    return {
      async restore(store) {
        const fresh = await folder("restored")
        await cp(join(saved, "gateway.db"), join(fresh, "gateway.db"))
        await cp(join(store === "as it was" ? saved : stateDir, "blobs"), join(fresh, "blobs"), { recursive: true })
        return { stateDir: fresh }
      },
    }
  },
})
