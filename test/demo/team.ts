/** The gateway of the demo with `--team`: two processes of a server, on a real Postgres and a real S3. */
import { join } from "node:path"
import { hasTeam, startTeam } from "../services/team.ts"
import type { World } from "../support/world.ts"

export interface DemoTeam extends AsyncDisposable {
  /** Goes into the laptop's environment: its token. */
  readonly env: Readonly<Record<string, string>>
  /** What its user types first. */
  readonly commands: readonly (readonly string[])[]
}

/** @throws {Error} when this machine has no Postgres or no S3 server. */
export async function demoTeam(world: World): Promise<DemoTeam> {
  if (!hasTeam()) throw new Error("apt-get install postgresql-15 radosgw ceph-mon ceph-osd ceph-common")
  const server = await world.machine("server")
  const team = await startTeam({ folder: join(world.root, "team"), env: server.env })
  return {
    env: { DECAMP_TOKEN: team.token },
    commands: [
      ["gateway", "add", "team", team.url],
      ["gateway", "use", "team"],
    ],
    [Symbol.asyncDispose]: async () => await team[Symbol.asyncDispose](),
  }
}
