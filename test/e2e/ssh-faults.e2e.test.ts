/** What can be wrong with a machine that is to become a host: a clear word each, and nothing of ours is left there. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test"
import { chmod, mkdir, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { isPossible } from "../support/full-disk.ts"
import { NO_SSHD, startSshd, type Sshd, type SshdOptions } from "../support/sshd.ts"
import { sshLaptop } from "../support/ssh-world.ts"
import { makeWorld, type CliResult, type Machine, type World } from "../support/world.ts"

/** What the script that looks at a machine may ask for; a real PATH holds much more. */
const TOOLS = [
  "sh",
  "bash",
  "env",
  "uname",
  "id",
  "date",
  "getconf",
  "grep",
  "df",
  "awk",
  "cut",
  "head",
  "gzip",
  "cat",
  "rm",
]
const MORE_TOOLS = ["mv", "mkdir", "rmdir", "chmod", "sha256sum", "ps", "printf"]

let world: World
const running: Sshd[] = []

beforeAll(async () => {
  if (NO_SSHD !== null) throw new Error(NO_SSHD)
  world = await makeWorld()
})
afterEach(async () => {
  for (const sshd of running.splice(0)) await sshd[Symbol.asyncDispose]()
})
afterAll(async () => await world?.[Symbol.asyncDispose]())

async function scene(options: SshdOptions = {}): Promise<{ sshd: Sshd; laptop: Machine }> {
  const sshd = await startSshd(options)
  running.push(sshd)
  const name = `l${crypto.randomUUID().slice(0, 6)}`
  return { sshd, laptop: await sshLaptop(world, sshd, name) }
}

const add = async (laptop: Machine, destination = "box"): Promise<CliResult> =>
  await laptop.decamp(["hosts", "add", "ssh", "box", destination])

/** The attempt failed by this code, said what it met, told what to do, and left the box and the list of hosts as they were. */
async function expectRefusal(
  { sshd, laptop }: { sshd: Sshd; laptop: Machine },
  expected: { code: string; message: RegExp; hint: RegExp },
  destination = "box",
): Promise<void> {
  const before = await readdir(sshd.home, { recursive: true })
  const { exitCode, json } = await add(laptop, destination)
  expect(json.error).toMatchObject({
    code: expected.code,
    message: expect.stringMatching(expected.message),
    hint: expect.stringMatching(expected.hint),
  })
  expect(exitCode).toBeGreaterThan(1)
  expect(await readdir(sshd.home, { recursive: true })).toEqual(before)
  const { hosts } = (await laptop.decamp(["hosts"])).json
  expect(hosts.map(({ kind }: { kind: string }) => kind)).toEqual(["laptop"])
}

/** A PATH for logins with everything but git, and these programs instead. */
async function pathWithout(sshd: Sshd, programs: Readonly<Record<string, string>>): Promise<void> {
  const bin = join(sshd.folder, "box-bin")
  await mkdir(bin)
  for (const tool of [...TOOLS, ...MORE_TOOLS]) {
    const found = Bun.which(tool, { PATH: "/usr/local/bin:/usr/bin:/bin" })
    if (found !== null && programs[tool] === undefined) await symlink(found, join(bin, tool))
  }
  for (const [name, text] of Object.entries(programs)) await writeFile(join(bin, name), text, { mode: 0o755 })
  await sshd.configure([`SetEnv "HOME=${sshd.home}" "PATH=${bin}"`])
}

describe("a line that can't be made", () => {
  test("the machine is off", async () => {
    const met = await scene()
    await met.sshd.stop()
    met.sshd.line.close()
    await expectRefusal(met, { code: "unreachable", message: /box can't be reached \(ssh: .+\)/, hint: /ssh box/ })
    await met.sshd.start()
  })

  test("its name means nothing", async () => {
    const met = await scene()
    const expected = { code: "unreachable", message: /address of box can't be found/, hint: /spelled right/ }
    await expectRefusal(met, expected, "nobody@no-such-machine.invalid")
  })

  test("the key is refused", async () => {
    const met = await scene()
    await writeFile(join(met.sshd.folder, "authorized_keys"), "")
    await expectRefusal(met, {
      code: "not_allowed",
      message: /refuses the keys.*Permission denied/,
      hint: /ssh-copy-id box/,
    })
  })

  test("its host key has changed", async () => {
    const met = await scene()
    await met.sshd.changeHostKey()
    await expectRefusal(met, { code: "not_allowed", message: /host key of box is not the one/, hint: /ssh-keygen -R/ })
  })

  test("its host key was never seen: it is not taken on trust", async () => {
    const met = await scene()
    await writeFile(met.sshd.knownHosts, "")
    await expectRefusal(met, {
      code: "not_allowed",
      message: /isn't known here yet/,
      hint: /connect once by hand.*ssh box/,
    })
    expect(await readFile(met.sshd.knownHosts, "utf8")).toBe("")
  })

  test("the jump host before it can't go on", async () => {
    const met = await scene()
    met.sshd.line.close()
    await expectRefusal(
      met,
      { code: "unreachable", message: /jump host could not go on to box/, hint: /ssh -v far/ },
      "far",
    )
  })

  test("sshd forwards no unix sockets", async () => {
    const met = await scene({ config: ["AllowStreamLocalForwarding no"] })
    const hint = /AllowStreamLocalForwarding yes/
    await expectRefusal(met, { code: "not_allowed", message: /refuses to forward unix sockets/, hint })
  })

  test.each(["-oProxyCommand=touch /tmp/owned", "box; reboot", "a b", "$(id)", ""])(
    "%p is no destination, and ssh never sees it",
    async (destination) => {
      const { laptop } = await scene()
      const { exitCode, json } = await laptop.decamp(["hosts", "add", "ssh", "--json", "--", "box", destination])
      expect([exitCode, json.error.code]).toEqual([2, "usage"])
    },
  )
})

describe("a machine that is not fit", () => {
  test("it has no git", async () => {
    const met = await scene()
    await pathWithout(met.sshd, {})
    await expectRefusal(met, {
      code: "git_missing",
      message: /box has no git/,
      hint: /install git 2\.29 or newer on box/,
    })
  })

  test("its git is too old", async () => {
    const met = await scene()
    await pathWithout(met.sshd, { git: "#!/bin/sh\necho git version 2.20.1\n" })
    await expectRefusal(met, { code: "git_missing", message: /git version 2\.20\.1/, hint: /on box/ })
  })

  test.each([
    ["another architecture", "riscv64", "Linux", /riscv64 machine/],
    ["another system", "x86_64", "FreeBSD", /runs FreeBSD/],
  ])("it is of %s", async (_, machine, system, message) => {
    const met = await scene()
    const uname = `#!/bin/sh\ncase $1 in -m) echo ${machine};; *) echo ${system};; esac\n`
    await pathWithout(met.sshd, { uname, git: "#!/bin/sh\necho git version 2.39.5\n" })
    await expectRefusal(met, { code: "unsupported_platform", message, hint: /another machine/ })
  })

  test("its libc is musl", async () => {
    const met = await scene()
    const getconf = "#!/bin/sh\nexit 1\n"
    const ldd = "#!/bin/sh\necho 'musl libc (x86_64)' >&2\nexit 1\n"
    await pathWithout(met.sshd, { getconf, ldd, git: "#!/bin/sh\necho git version 2.39.5\n" })
    await expectRefusal(met, { code: "unsupported_platform", message: /musl/, hint: /glibc/ })
  })

  test("it needs a program that was not built", async () => {
    const met = await scene()
    const uname = "#!/bin/sh\ncase $1 in -m) echo x86_64;; *) echo Linux;; esac\n"
    // No AVX2: the ordinary build does not run there.
    const grep = '#!/bin/sh\ncase "$*" in *avx2*) exit 1;; esac\nexec /usr/bin/grep "$@"\n'
    await pathWithout(met.sshd, { uname, grep, git: "#!/bin/sh\necho git version 2.39.5\n" })
    const baseline = join(import.meta.dir, "../../dist/decamp-linux-x64-baseline")
    const kept = (await Bun.file(baseline).exists()) ? await Bun.file(baseline).bytes() : null
    await rm(baseline, { force: true })
    try {
      const expected = { code: "unsupported_platform", message: /needs decamp-linux-x64-baseline/, hint: /--all/ }
      await expectRefusal(met, expected)
    } finally {
      if (kept !== null) await writeFile(baseline, kept, { mode: 0o755 })
    }
  })

  test("programs can't be run from its HOME", async () => {
    const met = await scene()
    if (!(await mount(met.sshd.home, "noexec"))) return
    try {
      const expected = {
        code: "not_writable",
        message: /mounted noexec.*[Pp]ermission denied/,
        hint: /mount it with exec/,
      }
      await expectRefusal(met, expected)
    } finally {
      await unmount(met.sshd.home)
    }
  })

  test("its disk has no room for decamp", async () => {
    const met = await scene()
    if (!(await mount(met.sshd.home, "size=50m"))) return
    try {
      await expectRefusal(met, { code: "no_space", message: /52 MB free.*400 MB are needed/, hint: /make room/ })
    } finally {
      await unmount(met.sshd.home)
    }
  })

  test("its disk fills up while decamp is copied", async () => {
    const met = await scene()
    if (!(await mount(met.sshd.home, "size=50m"))) return
    // As a disk that somebody else fills at the same time looks: there was room when it was asked.
    const df = "#!/bin/sh\nprintf 'a b c d\\n1 2 3 99999999\\n'\n"
    await pathWithout(met.sshd, { df, git: "#!/bin/sh\necho git version 2.39.5\n" })
    try {
      await expectRefusal(met, { code: "no_space", message: /no room for decamp/, hint: /make room/ })
    } finally {
      await unmount(met.sshd.home)
    }
  })

  test("its HOME can't be written", async () => {
    const met = await scene({ asOtherUser: true })
    await chmod(met.sshd.home, 0o555)
    await expectRefusal(met, { code: "not_writable", message: /can't be written/, hint: /own/ })
  })
})

describe("a machine that is only unusual", () => {
  const works = async ({ sshd, laptop }: { sshd: Sshd; laptop: Machine }, destination = "box"): Promise<void> => {
    expect(await add(laptop, destination)).toMatchObject({ exitCode: 0 })
    const { hosts } = (await laptop.decamp(["hosts"])).json
    expect(hosts).toContainEqual(expect.objectContaining({ name: "box", reachable: true }))
    const exec = await laptop.plain([
      "hosts",
      "exec",
      "box",
      "--",
      "sh",
      "-c",
      'printf "%s|%s" "$HOME" "it\'s"; exit 7',
    ])
    expect([exec.stdout.split("\n").at(-1), exec.exitCode]).toEqual([`${sshd.home}|it's`, 7])
    expect(await laptop.decamp(["hosts", "remove", "box"])).toMatchObject({ exitCode: 0 })
  }

  test("its login shell prints a banner, and asks for nothing", async () => {
    const met = await scene()
    const greeting = "echo 'Welcome to box!'; echo 'decamp-answer {broken'; echo careful >&2\n"
    await writeFile(join(met.sshd.home, ".bashrc"), greeting)
    await writeFile(join(met.sshd.home, ".bash_profile"), `${greeting}. ~/.bashrc\n`)
    await works(met)
  })

  test("it is behind a jump host", async () => works(await scene(), "far"))

  test.each(["my home", "50% off", "a:b", "it's", "ümlaut"])("its HOME is called %p", async (name) => {
    const folder = join(world.root, crypto.randomUUID().slice(0, 4))
    await works(await scene({ home: join(folder, name) }))
  })

  test.each(["tcsh", "fish", "zsh", "dash"])("its login shell is %s", async (name) => {
    const shell = Bun.which(name)
    if (!isPossible(`a login by ${name}`, shell !== null)) return
    await works(await scene({ asOtherUser: true, shell: shell ?? "" }))
  })
})

/** A small file system of its own over the HOME there; false: this machine doesn't let us. */
async function mount(folder: string, options: string): Promise<boolean> {
  const argv = ["mount", "-t", "tmpfs", "-o", `mode=700,${options}`, "tmpfs", folder]
  return isPossible("mounting", (await Bun.spawn(argv, { stderr: "ignore" }).exited) === 0)
}

async function unmount(folder: string): Promise<void> {
  await Bun.spawn(["umount", "-l", folder]).exited
}
