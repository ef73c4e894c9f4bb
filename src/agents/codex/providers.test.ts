import { expect, test } from "bun:test"
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { configuredProviders } from "./providers.ts"

test("providers are those of the configuration, and OpenAI where there is a login", async () => {
  const folder = await mkdtemp(join(tmpdir(), "decamp-codex-"))
  try {
    const env = { HOME: folder }
    const config = join(folder, ".codex/config.toml")
    await mkdir(join(folder, ".codex"))
    expect(await configuredProviders(env)).toEqual(["lmstudio", "ollama"])
    expect(await configuredProviders({ ...env, OPENAI_API_KEY: "x" })).toContain("openai")
    await writeFile(config, '[model_providers.fake]\nname = "f"\nenv_key = "K"\n[model_providers."a b"]\nname = "g"\n')
    expect(await configuredProviders(env)).toEqual(["a b", "fake", "lmstudio", "ollama"])
    await writeFile(join(folder, ".codex/auth.json"), "not even read")
    expect(await configuredProviders(env)).toEqual(["a b", "fake", "lmstudio", "ollama", "openai"])
    await writeFile(config, 'cli_auth_credentials_store = "keyring"\n')
    expect(await configuredProviders(env)).toBeNull()
    await writeFile(config, "= broken")
    expect(await configuredProviders(env)).toBeNull()
    const elsewhere = join(folder, "other")
    expect(await configuredProviders({ ...env, CODEX_HOME: elsewhere })).toEqual(["lmstudio", "ollama"])
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
})
