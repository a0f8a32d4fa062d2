import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Disk, Entry, Stat } from "../../src/objects/disk.js"
import { DiskError } from "../../src/objects/disk.js"
import { makeListPage } from "../../src/objects/folderListing.js"
import type { ObjectPage, ObjectStoreError } from "../../src/objects/ObjectStore.js"

/** Files by path, and folders made of them; `fail` says which path fails, and how. */
const scripted = (files: Iterable<string>) => {
  const paths = new Set(files)
  const calls: Array<string> = []
  const failing = new Map<string, string>()
  const before = new Map<string, () => void>()
  const root = { ino: 1n }

  const kindOf = (path: string): "file" | "folder" | undefined =>
    paths.has(path)
      ? "file"
      : path === "/root" || [...paths].some((file) => file.startsWith(`${path}/`))
        ? "folder"
        : undefined

  const looked = (call: string, path: string) => {
    before.get(path)?.()
    before.delete(path)
    calls.push(`${call} ${path}`)
    const code = failing.get(path) ?? (kindOf(path) === undefined ? "ENOENT" : undefined)
    return code === undefined ? undefined : new DiskError({ code, path })
  }

  const stat = (path: string): Stat | DiskError => {
    const failure = looked("stat", path)
    if (failure !== undefined) return failure
    const kind = kindOf(path)
    return {
      dev: 1n,
      ino: path === "/root" ? root.ino : 2n,
      size: 3n,
      mtimeNs: 5_000_000n,
      isFile: () => kind === "file",
      isDirectory: () => kind === "folder"
    }
  }

  const disk: Disk = {
    readdir: (given) =>
      Effect.suspend(() => {
        const path = given.replace(/\/$/, "")
        const failure = looked("readdir", path)
        if (failure !== undefined) return failure
        const names = new Map<string, Entry>()
        for (const file of paths) {
          if (!file.startsWith(`${path}/`)) continue
          const [name, ...below] = file.slice(path.length + 1).split("/")
          names.set(name!, { name: name!, kind: below.length > 0 ? "folder" : "file" })
        }
        return Effect.succeed([...names.values()])
      }),
    stat: (path) =>
      Effect.suspend(() => {
        const found = stat(path)
        return found instanceof DiskError ? found : Effect.succeed(found)
      }),
    statAll: (all) => Effect.sync(() => all.map(stat)),
    realpath: (path) => Effect.succeed(path)
  }
  return { before, calls, disk, failing, paths, root }
}

const listing = (disk: Disk) => makeListPage(disk, { identity: "file:///root", root: "/root", followSymlinks: false })

const walk = (listPage: ReturnType<typeof listing>, maxKeys: number) =>
  Effect.gen(function* () {
    const keys: Array<string> = []
    let token: string | undefined
    do {
      const page: ObjectPage = yield* listPage({ maxKeys, token })
      keys.push(...page.objects.map(({ key }) => key))
      token = page.next
    } while (token !== undefined)
    return keys
  })

const seen = ({ message, operation, reason }: ObjectStoreError) => [reason, operation, message]

const many = Array.from({ length: 500 }, (_, n) => `/root/k${String(n).padStart(3, "0")}`)

describe("folderListing", () => {
  it.effect("O5 a folder is read once for all its pages", () =>
    Effect.gen(function* () {
      const { calls, disk } = scripted(many)
      assert.strictEqual((yield* walk(listing(disk), 7)).length, 500)
      assert.strictEqual(calls.filter((call) => call.startsWith("readdir")).length, 1)
      assert.strictEqual(calls.filter((call) => call.startsWith("stat /root/k")).length, 500)
    })
  )

  it.effect("O5 walks beside each other are kept open, 64 of them; the others read again and lose nothing", () =>
    Effect.gen(function* () {
      for (const [walks, isBounded] of [
        [64, true],
        [66, false]
      ] as const) {
        const { calls, disk } = scripted(many)
        const listPage = listing(disk)
        const found = yield* Effect.all(
          Array.from({ length: walks }, () =>
            walk((options) => Effect.zipLeft(listPage(options), Effect.yieldNow()), 50)
          ),
          { concurrency: "unbounded" }
        )
        for (const keys of found) assert.strictEqual(new Set(keys).size, 500)
        const reads = calls.filter((call) => call.startsWith("readdir")).length
        assert.strictEqual(reads === walks, isBounded, `${walks} walks read the folder ${reads} times`)
      }
    })
  )

  it.effect("O5 a walk that was given up is never taken for a younger one, which would see old names", () =>
    Effect.gen(function* () {
      const { disk, paths } = scripted(["/root/a", "/root/b", "/root/d"])
      const listPage = listing(disk)
      const first = yield* listPage({ maxKeys: 1 })
      paths.add("/root/c")
      const second = yield* listPage({ maxKeys: 1 })
      assert.notStrictEqual(first.next, second.next)
      const { objects } = yield* listPage({ token: second.next })
      assert.deepStrictEqual(
        objects.map(({ key }) => key),
        ["b", "c", "d"]
      )
    })
  )

  it.effect("O9 a file or folder that vanishes behind its name is no error", () =>
    Effect.gen(function* () {
      const { before, disk, paths } = scripted(["/root/a", "/root/b", "/root/d/e", "/root/f"])
      before.set("/root/b", () => paths.delete("/root/b"))
      before.set("/root/d", () => paths.delete("/root/d/e"))
      assert.deepStrictEqual(yield* walk(listing(disk), 100), ["a", "f"])
      assert.isFalse(paths.has("/root/b") || paths.has("/root/d/e"))
    })
  )

  it.effect("O2 a folder that may not be read, or a disk that fails, fails the page and names the place", () =>
    Effect.gen(function* () {
      for (const [code, reason] of [
        ["EACCES", "Unauthorized"],
        ["EPERM", "Unauthorized"],
        ["EIO", "Io"],
        ["ESTALE", "Io"],
        ["EMFILE", "Io"]
      ] as const) {
        for (const place of ["a", "d/e"]) {
          const { disk, failing } = scripted(["/root/a", "/root/d/e/f"])
          failing.set(`/root/${place}`, code)
          const [found, operation, message] = seen(yield* Effect.flip(walk(listing(disk), 100)))
          assert.deepStrictEqual([found, operation], [reason, "listPage"])
          assert.include(message, `${code}, at "${place}"`)
        }
      }
    })
  )

  it.effect("O2 a page that failed is asked for again, and whole", () =>
    Effect.gen(function* () {
      const { disk, failing } = scripted(["/root/a", "/root/b", "/root/c"])
      const listPage = listing(disk)
      const { next: token } = yield* listPage({ maxKeys: 1 })
      failing.set("/root/c", "EIO")
      assert.strictEqual((yield* Effect.flip(listPage({ token }))).reason, "Io")
      failing.clear()
      assert.deepStrictEqual(
        (yield* listPage({ token })).objects.map(({ key }) => key),
        ["b", "c"]
      )
    })
  )

  it.effect("O2 a root that goes away or is replaced in the middle is an error, not the end of its files", () =>
    Effect.gen(function* () {
      const gone = scripted(["/root/a", "/root/b"])
      gone.before.set("/root/a", () => {
        gone.paths.clear()
        gone.failing.set("/root", "ENOENT")
      })
      assert.strictEqual((yield* Effect.flip(walk(listing(gone.disk), 100))).reason, "MissingContainer")

      const replaced = scripted(["/root/a", "/root/b", "/root/c"])
      const listPage = listing(replaced.disk)
      const { next: token } = yield* listPage({ maxKeys: 1 })
      // another disk is mounted there
      replaced.paths.clear()
      replaced.root.ino = 9n
      assert.strictEqual((yield* Effect.flip(listPage({ token }))).reason, "StaleToken")
    })
  )

  it.effect("O2 a root that is replaced is an error too where the walk is gone and its page goes on by the key", () =>
    Effect.gen(function* () {
      const swap = ({ paths, root }: ReturnType<typeof scripted>) => {
        paths.clear()
        root.ino = 9n
        // nothing is left that the token would find
        paths.add("/root/a")
      }
      const files = ["/root/a", "/root/b", "/root/c"]

      const failed = scripted(files)
      const afterFailure = listing(failed.disk)
      const { next: token } = yield* afterFailure({ maxKeys: 1 })
      failed.failing.set("/root/b", "EIO")
      assert.strictEqual((yield* Effect.flip(afterFailure({ token }))).reason, "Io")
      failed.failing.clear()
      swap(failed)
      assert.strictEqual((yield* Effect.flip(afterFailure({ token }))).reason, "StaleToken")
      assert.strictEqual((yield* Effect.flip(afterFailure({ token }))).reason, "StaleToken")

      const restarted = scripted(files)
      const { next: stored } = yield* listing(restarted.disk)({ maxKeys: 1 })
      swap(restarted)
      assert.strictEqual((yield* Effect.flip(listing(restarted.disk)({ token: stored }))).reason, "StaleToken")

      const late = scripted(files)
      const { next: taken } = yield* listing(late.disk)({ maxKeys: 1 })
      // whatever was looked at before, the names are those of the other one
      const readdir: Disk["readdir"] = (path) =>
        Effect.zipRight(
          Effect.sync(() => swap(late)),
          late.disk.readdir(path)
        )
      const swapping = listing({ ...late.disk, readdir })
      assert.strictEqual((yield* Effect.flip(swapping({ token: taken }))).reason, "StaleToken")

      const same = scripted(files)
      const { next: resumed } = yield* listing(same.disk)({ maxKeys: 1 })
      assert.deepStrictEqual(
        (yield* listing(same.disk)({ token: resumed })).objects.map(({ key }) => key),
        ["b", "c"]
      )
    })
  )

  it.effect("O5 the token of another prefix is stale", () =>
    Effect.gen(function* () {
      const { disk } = scripted(["/root/a/b", "/root/a/c", "/root/b/c"])
      const listPage = listing(disk)
      const { next: token } = yield* listPage({ prefix: "a/", maxKeys: 1 })
      assert.strictEqual((yield* Effect.flip(listPage({ prefix: "b/", token }))).reason, "StaleToken")
      assert.deepStrictEqual(
        (yield* listPage({ prefix: "a/", token })).objects.map(({ key }) => key),
        ["a/c"]
      )
    })
  )
})
