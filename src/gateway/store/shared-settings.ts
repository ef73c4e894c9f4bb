/** What every process of a gateway must agree on: made by the first that needs it, kept in the database. */
import { AppError } from "../../protocol/errors.ts"
import type { GatewayDatabase } from "./schema.ts"

/** Null when nobody has made it. */
export async function sharedSetting(db: GatewayDatabase, name: string): Promise<string | null> {
  const row = await db.selectFrom("settings").select("value").where("name", "=", name).executeTakeFirst()
  return row?.value ?? null
}

/** Of several that make it at once the first one's is everybody's. */
export async function madeSetting(db: GatewayDatabase, name: string, make: () => Promise<string>): Promise<string> {
  const known = await sharedSetting(db, name)
  if (known !== null) return known
  const row = { name, value: await make() }
  await db
    .insertInto("settings")
    .values(row)
    .onConflict((conflict) => conflict.doNothing())
    .execute()
  const value = await sharedSetting(db, name)
  if (value === null) throw new AppError("internal", `the setting ${name} was written and is not there`)
  return value
}

export async function removeSetting(db: GatewayDatabase, name: string): Promise<void> {
  await db.deleteFrom("settings").where("name", "=", name).execute()
}
