/** What the routes are given. Wired in start.ts. */
import type { LineKeeper } from "../provision/provisioner.ts"
import type { BlobStore } from "../storage/blob-store.ts"
import type { GatewayStore } from "../storage/open-store.ts"
import type { Log } from "./app.ts"
import type { SignIn } from "./auth/sign-in.ts"
import type { Checkpoints } from "./checkpoints.ts"
import type { ErasingParts } from "./erasing.ts"
import type { GarbageParts } from "./garbage.ts"
import type { Driver } from "./driver.ts"
import type { Hosts } from "./hosts.ts"
import type { LimitKeeper } from "./limits.ts"
import type { Metrics } from "./metrics.ts"
import type { Ownership } from "./ownership.ts"
import type { GatewayDatabase } from "./store/schema.ts"

export interface Services {
  readonly db: GatewayDatabase
  readonly store: BlobStore
  /** Contents that the gateway itself serves; null: another server does. */
  readonly served: GatewayStore["served"]
  /** What every address of contents begins with; null: they are paths of the gateway. */
  readonly storeUrl: string | null
  readonly signIn: SignIn
  /** Kinds of hosts that people may add. */
  readonly hostKinds: readonly ("local" | "ssh")[]
  readonly hosts: Hosts
  /** Lines to hosts over SSH. */
  readonly ssh: LineKeeper
  readonly ownership: Ownership
  readonly checkpoints: Checkpoints
  readonly driver: Driver
  readonly garbage: GarbageParts & ErasingParts
  readonly limits: LimitKeeper
  /** Null: nobody asks for them. */
  readonly metrics: Metrics | null
  readonly hostSocket: string
  readonly nowMs: () => number
  readonly log: Log
}
