/** Tokens that people make for their programs: kept as their hash, with an end, taken back when their maker says so. */
import type { Selectable } from "kysely"
import { AppError } from "../../protocol/errors.ts"
import { nameSchema, tenantIdSchema, type TenantId } from "../../protocol/ids.ts"
import { USER_TOKEN_PREFIX, type UserToken } from "../../protocol/sign-in.ts"
import type { User } from "../app.ts"
import type { GatewayDatabase, UserTokenTable } from "../store/schema.ts"
import { hashOfToken, newToken } from "../tokens.ts"
import { notSignedIn } from "./verified.ts"

const DAY_MS = 86_400_000
/** `used_at_ms` is written at most so often. */
const USED_MS = 60_000
/** More of them is nobody's intention. */
const TOKENS_MAX = 100

/** @throws {AppError} not_signed_in when it is none, has ended, or was taken back */
export async function ownerOfToken(db: GatewayDatabase, token: string, nowMs: number): Promise<User> {
  const row = await db
    .selectFrom("user_tokens")
    .selectAll()
    .where("token_hash", "=", hashOfToken(token))
    .executeTakeFirst()
  if (row === undefined) throw notSignedIn("this token is unknown here, or was revoked")
  if (row.expires_at_ms <= nowMs) throw notSignedIn(`the token ${row.name} has expired`)
  if (nowMs - (row.used_at_ms ?? 0) > USED_MS) {
    await db
      .updateTable("user_tokens")
      .set({ used_at_ms: nowMs })
      .where("tenant", "=", row.tenant)
      .where("id", "=", row.id)
      .execute()
  }
  const tenant = tenantIdSchema.parse(row.tenant)
  return { tenant, subject: row.name, method: "token", expiresAtMs: row.expires_at_ms }
}

/** The token itself is answered this once. @throws {AppError} name_taken; too_large for one too many */
export async function createUserToken(
  db: GatewayDatabase,
  tenant: TenantId,
  { name, days }: { readonly name: string; readonly days: number },
  nowMs: number,
): Promise<{ readonly token: string; readonly info: UserToken }> {
  const known = await userTokens(db, tenant)
  if (known.some((each) => each.name === name)) {
    throw new AppError("name_taken", `there is a token ${name} already`, { hint: `decamp tokens revoke ${name}` })
  }
  if (known.length >= TOKENS_MAX) {
    throw new AppError("too_large", `there are ${known.length} tokens already`, { hint: "decamp tokens revoke NAME" })
  }
  const token = `${USER_TOKEN_PREFIX}${newToken()}`
  const row = {
    tenant,
    id: `ut_${Buffer.from(crypto.getRandomValues(new Uint8Array(12))).toString("hex")}`,
    name,
    token_hash: hashOfToken(token),
    created_at_ms: nowMs,
    expires_at_ms: nowMs + days * DAY_MS,
    used_at_ms: null,
  }
  await db.insertInto("user_tokens").values(row).execute()
  return { token, info: infoOf(row) }
}

/** Those that have ended too, newest first. */
export async function userTokens(db: GatewayDatabase, tenant: TenantId): Promise<UserToken[]> {
  const rows = await db
    .selectFrom("user_tokens")
    .selectAll()
    .where("tenant", "=", tenant)
    .orderBy("created_at_ms", "desc")
    .execute()
  return rows.map(infoOf)
}

/** Answers whether there was one. */
export async function revokeUserToken(db: GatewayDatabase, tenant: TenantId, idOrName: string): Promise<boolean> {
  const { numDeletedRows } = await db
    .deleteFrom("user_tokens")
    .where("tenant", "=", tenant)
    .where((where) => where.or([where("id", "=", idOrName), where("name", "=", idOrName)]))
    .executeTakeFirst()
  return numDeletedRows > 0n
}

function infoOf(row: Selectable<UserTokenTable>): UserToken {
  return {
    id: row.id,
    name: nameSchema.parse(row.name),
    createdAtMs: row.created_at_ms,
    expiresAtMs: row.expires_at_ms,
    usedAtMs: row.used_at_ms,
  }
}
