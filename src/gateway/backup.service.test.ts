import { afterAll, afterEach } from "bun:test"
import { existsSync } from "node:fs"
import { cp } from "node:fs/promises"
import { join } from "node:path"
import { postgresVersions, startPostgres } from "../../test/services/postgres.ts"
import { endAll, folder, removeAll } from "../../test/support/gateway.ts"
import { backupContract } from "./backup.contract.ts"

afterEach(endAll)
afterAll(removeAll)

async function run(...argv: string[]): Promise<void> {
  const child = Bun.spawn(argv, { stdout: "pipe", stderr: "pipe" })
  const words = await new Response(child.stderr).text()
  if ((await child.exited) !== 0) throw new Error(`${argv[0]}: ${words}`)
}

// The package of npm has no pg_dump, and one of an older version refuses a newer server.
for (const version of postgresVersions().filter(({ root }) => existsSync(join(root, "bin/pg_dump")))) {
  const postgres = await startPostgres(version)
  afterAll(async () => await postgres[Symbol.asyncDispose]())

  backupContract(version.name, {
    make: async () => ({ postgres: await postgres.database() }),
    async backup({ stateDir, postgres: url = "" }) {
      const saved = await folder("saved")
      const dump = join(saved, "gateway.dump")
      await run(join(version.root, "bin/pg_dump"), "--format=custom", `--file=${dump}`, `--dbname=${url}`)
      await cp(join(stateDir, "blobs"), join(saved, "blobs"), { recursive: true })
      return {
        async restore(store) {
          const fresh = await folder("restored")
          const database = await postgres.database()
          const flags = ["--exit-on-error", "--single-transaction", "--no-owner"]
          await run(join(version.root, "bin/pg_restore"), ...flags, `--dbname=${database}`, dump)
          await cp(join(store === "as it was" ? saved : stateDir, "blobs"), join(fresh, "blobs"), { recursive: true })
          return { stateDir: fresh, postgres: database }
        },
      }
    },
  })
}
