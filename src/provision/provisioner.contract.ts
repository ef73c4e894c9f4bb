/** What every provisioner must do. Run by each implementation's test; docs/add-a-host.md explains it. */
import { afterEach, describe, expect, test } from "bun:test"
import { mkdir, readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { hostHelloSchema, type HostHello } from "../protocol/gateway-api.ts"
import { newHostId } from "../protocol/ids.ts"
import { newToken } from "./daemon.ts"
import type { HostConnection, HostPlace, HostSpec, Provisioner } from "./provisioner.ts"

/** Where hosts can be made for a test, and what can befall them. */
export interface HostGround {
  /** Of one gateway, the same in every call. */
  readonly provisioner: Provisioner
  /** Of another gateway. */
  readonly foreign: Provisioner
  /** A root where a host can be made and none is. */
  newRoot(): Promise<string>
  /** Ends every process of the host there, as a reboot does. */
  kill(root: string): Promise<void>
  /** All that decamp has put there is lost. */
  wipe(root: string): Promise<void>
  /** Where checkouts of the host lie, seen from here. */
  workFolder(root: string): string
}

const LIMIT_MS = 60_000

/** Asks the daemon who it is; null when it refuses the token. */
export async function helloAt({ socket, token }: HostConnection): Promise<HostHello | null> {
  const headers = { authorization: `Bearer ${token}` }
  const response = await fetch("http://decamp/hello", { unix: socket, headers })
  return response.status === 401 ? null : hostHelloSchema.parse(await response.json())
}

export function provisionerContract(name: string, ground: () => HostGround): void {
  const made: HostPlace[] = []
  afterEach(async () => {
    for (const place of made.splice(0))
      await ground()
        .provisioner.destroy(place)
        .catch(() => {})
  }, LIMIT_MS)

  async function make(changes: Partial<HostSpec> = {}): Promise<HostPlace> {
    const spec = { host: newHostId(), name: "box", root: "", token: newToken(), adopt: false, isKnown: false }
    const root = changes.root ?? (await ground().newRoot())
    const id = await ground().provisioner.create({ ...spec, tell: () => {}, ...changes, root })
    const place = { host: id, name: changes.name ?? spec.name, root }
    made.push(place)
    return place
  }

  const connect = async (place: HostPlace): Promise<HostConnection> => await ground().provisioner.connect(place)

  describe(`${name} keeps the contract of a provisioner`, () => {
    test(
      "a host answers to its token alone, and after a stop it is the same host",
      async () => {
        const { provisioner } = ground()
        const place = await make()
        const connection = await connect(place)
        const first = await helloAt(connection)
        expect(first?.host).toBe(place.host)
        expect(await helloAt({ ...connection, token: newToken() })).toBeNull()
        expect(await provisioner.status(place)).toBe("running")
        expect(await provisioner.stop(place)).toBe(true)
        await expect(helloAt(connection)).rejects.toThrow()
        const again = await helloAt(await connect(place))
        expect(again).toMatchObject({ host: place.host, incarnation: first?.incarnation })
      },
      LIMIT_MS,
    )

    test(
      "who connects at once reaches one daemon",
      async () => {
        const place = await make()
        const connections = await Promise.all([connect(place), connect(place), connect(place)])
        const hellos = await Promise.all(connections.map(helloAt))
        expect(new Set(hellos.map((hello) => hello?.incarnation)).size).toBe(1)
        expect(hellos[0]?.host).toBe(place.host)
      },
      LIMIT_MS,
    )

    test(
      "a daemon that was killed is started again as the same host",
      async () => {
        const place = await make()
        const first = await helloAt(await connect(place))
        await ground().kill(place.root)
        const again = await eventually(async () => await helloAt(await connect(place)))
        expect(again?.incarnation).toBe(first?.incarnation)
      },
      LIMIT_MS,
    )

    test(
      "a host that is made again gets the new name and token, and keeps its id and its disk",
      async () => {
        const place = await make()
        const first = await helloAt(await connect(place))
        const work = ground().workFolder(place.root)
        await mkdir(work, { recursive: true })
        await writeFile(join(work, "kept.txt"), "kept")
        const again = await make({ root: place.root, name: "renamed" })
        expect(again.host).toBe(place.host)
        const hello = await helloAt(await connect(again))
        expect(hello).toMatchObject({ host: place.host, incarnation: first?.incarnation })
        expect(await readFile(join(work, "kept.txt"), "utf8")).toBe("kept")
      },
      LIMIT_MS,
    )

    test(
      "another gateway's host is refused, and goes on as it was",
      async () => {
        const place = await make()
        const connection = await connect(place)
        const spec = {
          host: newHostId(),
          name: "mine",
          token: newToken(),
          adopt: false,
          isKnown: false,
          tell: () => {},
        }
        const taken = ground().foreign.create({ ...spec, root: place.root })
        await expect(taken).rejects.toMatchObject({ code: expect.stringMatching(/^(usage|other_gateway)$/) })
        expect((await helloAt(connection))?.host).toBe(place.host)
      },
      LIMIT_MS,
    )

    test(
      "a host whose machine was made anew is gone, and nobody is let in",
      async () => {
        const { provisioner } = ground()
        const place = await make()
        await connect(place)
        await ground().kill(place.root)
        await ground().wipe(place.root)
        await eventually(async () => expect(await provisioner.status(place)).toBe("gone"))
        await expect(connect(place)).rejects.toMatchObject({ code: "unreachable", hint: expect.any(String) })
      },
      LIMIT_MS,
    )

    test(
      "a host that is destroyed answers no more, and its checkouts stay",
      async () => {
        const { provisioner } = ground()
        const place = await make()
        const connection = await connect(place)
        const work = ground().workFolder(place.root)
        await mkdir(work, { recursive: true })
        await writeFile(join(work, "stays.txt"), "stays")
        await provisioner.destroy(place)
        await expect(helloAt(connection)).rejects.toThrow()
        expect(await readFile(join(work, "stays.txt"), "utf8")).toBe("stays")
      },
      LIMIT_MS,
    )

    test(
      "a command is run as that host's user, not as this machine's",
      async () => {
        const place = await make()
        const plan = ground().provisioner.execPlan(place)
        if (plan.kind === "ssh") expect(plan.destination).toBe(place.root)
        else expect(plan.env["HOME"]).not.toBe(process.env["HOME"])
      },
      LIMIT_MS,
    )
  })
}

/** A daemon that is just being killed may still have taken the connection; a line that broke needs a second try. */
async function eventually<T>(work: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await work()
    } catch (error) {
      if (tries === 20) throw error
      await Bun.sleep(250)
    }
  }
}
