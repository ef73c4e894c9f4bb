/** The blob store that the settings of a gateway name. */
import type { DirectoryStore, OpenStore } from "./blob-store.ts"
import { directoryErasing, s3Erasing, type Erasing } from "./erasing.ts"
import { openFilesystemStore } from "./filesystem.ts"
import { s3Store } from "./s3.ts"
import { s3Client, type S3Settings } from "./s3-client.ts"
import { s3Presigner } from "./s3-presigner.ts"
import { urlPresigner } from "./signed-url.ts"

/** A private folder, with the key that signs addresses of its contents; or a bucket. */
export type StorePlace = { readonly directory: string; readonly signingKey: Uint8Array } | { readonly s3: S3Settings }

export interface GatewayStore extends OpenStore {
  /** What the gateway serves itself; null: another server does. */
  readonly served: { readonly store: DirectoryStore; readonly signingKey: Uint8Array } | null
  readonly erasing: Erasing
}

/** @throws {AppError} invalid_request for settings that name no server or bucket */
export async function openStore(place: StorePlace): Promise<GatewayStore> {
  if ("s3" in place) {
    const client = await s3Client(place.s3)
    const store = s3Store(client)
    const { storeUrl } = client
    return { store, presigner: s3Presigner(client), storeUrl, served: null, erasing: s3Erasing(client, store) }
  }
  const { directory, signingKey } = place
  const store = await openFilesystemStore(directory)
  const erasing = directoryErasing(directory, store)
  return { store, presigner: urlPresigner(signingKey), storeUrl: null, served: { store, signingKey }, erasing }
}
