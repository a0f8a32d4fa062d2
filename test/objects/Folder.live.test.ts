import { assert, describe, it } from "@effect/vitest"
import { Config, ConfigProvider, Effect, Either, Fiber, Layer, Option, Stream } from "effect"
import { Folder, ObjectStore } from "effect-periscope/objects"
import { ObjectStoreContract } from "effect-periscope/testing"
import { execFileSync } from "node:child_process"
import * as NFS from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"

/** A folder of its own, gone with the scope. */
const temporary = Effect.acquireRelease(
  Effect.sync(() => NFS.realpathSync(NFS.mkdtempSync(join(tmpdir(), "periscope-folder-")))),
  (root) => Effect.sync(() => NFS.rmSync(root, { recursive: true, force: true }))
)

for (const followSymlinks of [false, true]) {
  ObjectStoreContract.suite(
    { describe, it },
    {
      name: followSymlinks ? "folder that follows links" : "folder",
      order: "utf8",
      wrongToken: "StaleToken",
      cannotHold: [
        "dots",
        "dotSegments",
        "emptySegments",
        "leadingSlash",
        "trailingSlash",
        "besideFolders",
        "nul",
        "longSegments"
      ],
      make: Effect.flatMap(temporary, (root) => Folder.make({ root, followSymlinks })),
      missing: Effect.flatMap(temporary, (root) => Folder.make({ root: join(root, "missing") }))
    }
  )
}

const keysOf = (store: { readonly list: () => Stream.Stream<{ readonly key: string }, unknown> }) =>
  Effect.map(Stream.runCollect(store.list()), (found) => Array.from(found, ({ key }) => key))

const opened = (options: Partial<Folder.Options> = {}) =>
  Effect.gen(function* () {
    const root = yield* temporary
    return { root, store: yield* Folder.make({ root, ...options }) }
  })

describe("Folder", () => {
  it.scopedLive("O9 a touch, a write and a replacement are other versions, a change of permissions is not", () =>
    Effect.gen(function* () {
      const { root, store } = yield* opened()
      const file = join(root, "a")
      const versions = [(yield* store.put("a", "one")).version]
      NFS.chmodSync(file, 0o600)
      assert.strictEqual((yield* store.head("a")).version, versions[0])
      const { mtimeNs } = NFS.statSync(file, { bigint: true })
      // one microsecond, which milliseconds do not show
      yield* Effect.promise(() => NFS.promises.utimes(file, 1, Number(mtimeNs / 1000n + 1n) / 1e6))
      versions.push((yield* store.head("a")).version)
      NFS.writeFileSync(file, "two")
      versions.push((yield* store.head("a")).version)
      NFS.writeFileSync(join(root, "b"), "two")
      const { atime, mtime } = NFS.statSync(file)
      NFS.utimesSync(file, atime, mtime)
      NFS.utimesSync(join(root, "b"), atime, mtime)
      versions.push((yield* store.head("a")).version)
      NFS.renameSync(join(root, "b"), file)
      versions.push((yield* store.head("a")).version)
      assert.strictEqual(new Set(versions).size, 5, versions.join(" "))
      assert.match(versions[0]!, /^\d{16,}-3-\d+$/)
    })
  )

  it.scopedLive("O5 the order is that of whole keys: a-b before a/b, astral behind private use", () =>
    Effect.gen(function* () {
      const { store } = yield* opened()
      const keys = ["a-b", "a.b/c", "a/b", "a/b-c", "a0", "\uffee/x", "\u{10000}-", "\u{10000}/x"]
      for (const key of [...keys].reverse()) yield* store.put(key, "")
      assert.deepStrictEqual(yield* keysOf(store), keys)
    })
  )

  it.scopedLive("O5 a token goes on in another process, and in the same one when its walk was given up", () =>
    Effect.gen(function* () {
      const { root, store } = yield* opened()
      const keys = Array.from({ length: 60 }, (_, n) => (n % 3 === 0 ? `d${n % 4}/e/${n}` : `k${n}`)).sort()
      for (const key of keys) yield* store.put(key, "")
      const seen: Array<string> = []
      let token: string | undefined
      do {
        const other = yield* Folder.make({ root })
        const page: ObjectStore.ObjectPage = yield* other.listPage({ maxKeys: 7, token })
        // six walks are begun meanwhile, more than are kept
        for (let n = 0; n < 6; n++) yield* store.listPage({ maxKeys: 1 })
        assert.deepStrictEqual((yield* store.listPage({ maxKeys: 7, token })).objects, page.objects)
        seen.push(...page.objects.map(({ key }) => key))
        token = page.next
      } while (token !== undefined)
      assert.deepStrictEqual(seen, keys)
    })
  )

  it.scopedLive("O9 links are no objects, and are followed when that is asked for; circles and dead links end", () =>
    Effect.gen(function* () {
      const outside = yield* temporary
      NFS.writeFileSync(join(outside, "secret"), "outside")
      const { root, store } = yield* opened()
      yield* store.put("a/b", "inside")
      NFS.symlinkSync(outside, join(root, "way-out"))
      NFS.symlinkSync(join(outside, "secret"), join(root, "secret"))
      NFS.symlinkSync("..", join(root, "a", "up"))
      NFS.symlinkSync("self", join(root, "self"))
      NFS.symlinkSync("nowhere", join(root, "dead"))
      assert.deepStrictEqual(yield* keysOf(store), ["a/b"])
      for (const prefix of ["way-out/", "a/up/", "self/"]) {
        assert.deepStrictEqual(yield* store.listPage({ prefix }), { objects: [] })
      }
      for (const key of ["secret", "way-out/secret", "a/up/a/b", "self", "dead"]) {
        assert.strictEqual((yield* Effect.flip(store.head(key))).reason, "NotFound")
        assert.strictEqual((yield* Effect.flip(Stream.runDrain(store.get(key)))).reason, "NotFound")
        yield* store.remove(key)
      }
      const following = yield* Folder.make({ root, followSymlinks: true })
      assert.deepStrictEqual(yield* keysOf(following), ["a/b", "secret", "way-out/secret"])
      assert.strictEqual(yield* Stream.mkString(Stream.decodeText(following.get("way-out/secret"))), "outside")
      assert.deepStrictEqual(NFS.readdirSync(outside), ["secret"])
    })
  )

  it.scopedLive("nothing outside of the root is written or removed, links or not", () =>
    Effect.gen(function* () {
      const outside = yield* temporary
      NFS.writeFileSync(join(outside, "kept"), "outside")
      for (const followSymlinks of [false, true]) {
        const { root, store } = yield* opened({ followSymlinks })
        NFS.symlinkSync(outside, join(root, "out"))
        NFS.symlinkSync(join(outside, "kept"), join(root, "kept"))
        for (const key of ["out/new", "out/deep/new", "../x", "out/../../x"]) {
          assert.strictEqual((yield* Effect.flip(store.put(key, "x"))).reason, "InvalidRequest", key)
        }
        const removed = yield* Effect.either(store.remove("out/kept"))
        assert.strictEqual(Either.isLeft(removed), followSymlinks)
        // a link that is an object is replaced itself, not what it leads to
        yield* store.put("kept", "inside")
        assert.strictEqual(NFS.readFileSync(join(root, "kept"), "utf8"), "inside")
        assert.deepStrictEqual(NFS.readdirSync(outside), ["kept"])
        assert.strictEqual(NFS.readFileSync(join(outside, "kept"), "utf8"), "outside")
      }
    })
  )

  it.scopedLive("O9 pipes and sockets are skipped, and reading one does not wait", () =>
    Effect.gen(function* () {
      const { root, store } = yield* opened()
      execFileSync("mkfifo", [join(root, "pipe")])
      const server = createServer()
      yield* Effect.acquireRelease(
        Effect.async<void>((resume) => void server.listen(join(root, "socket"), () => resume(Effect.void))),
        () => Effect.sync(() => server.close())
      )
      yield* store.put("file", "x")
      assert.deepStrictEqual(yield* keysOf(store), ["file"])
      for (const key of ["pipe", "socket"]) {
        assert.strictEqual((yield* Effect.flip(Stream.runDrain(store.get(key)))).reason, "NotFound")
      }
    })
  )

  it.scopedLive("O9 a name that is not UTF-8 fails the listing, naming the folder; U+FFFD itself is a name", () =>
    Effect.gen(function* () {
      const { root, store } = yield* opened()
      yield* store.put("good/\ufffd", "x")
      yield* store.put("bad/b", "x")
      assert.deepStrictEqual(yield* keysOf(store), ["bad/b", "good/\ufffd"])
      NFS.writeFileSync(Buffer.concat([Buffer.from(`${root}/bad/`), Buffer.from([0x61, 0xff])]), "x")
      const error = yield* Effect.flip(store.listPage())
      assert.deepStrictEqual([error.reason, error.operation], ["InvalidRequest", "listPage"])
      assert.include(error.message, '"bad"')
      assert.strictEqual((yield* store.listPage({ prefix: "good/" })).objects.length, 1)
    })
  )

  it.scopedLive("a put shows up whole or not at all, and leaves nothing behind when it is interrupted", () =>
    Effect.gen(function* () {
      const { root, store } = yield* opened({ sync: true })
      yield* store.put("a/big", "old")
      const big = new Uint8Array(32 * 1024 * 1024).fill(120)
      const writing = yield* Effect.fork(store.put("a/big", big))
      const sizes = new Set<number>()
      let between = 0
      while (Option.isNone(yield* Fiber.poll(writing))) {
        const { objects } = yield* store.listPage()
        assert.deepStrictEqual(
          objects.map(({ key }) => key),
          ["a/big"]
        )
        if (NFS.readdirSync(join(root, "a")).length > 1) between++
        sizes.add(objects[0]!.size)
      }
      assert.isAbove(between, 0, "no listing came while the file was written")
      for (const size of sizes) assert.include([3, big.length], size)
      const given = yield* Effect.fork(store.put("b", big))
      yield* Effect.repeat(
        Effect.sync(() => NFS.readdirSync(root)),
        { until: (names) => names.length > 1, times: 1e5 }
      )
      yield* Fiber.interrupt(given)
      assert.deepStrictEqual(
        NFS.readdirSync(root).filter((name) => name.startsWith(".periscope")),
        []
      )
      assert.strictEqual((yield* Effect.flip(store.put("a", "x"))).reason, "InvalidRequest")
      assert.deepStrictEqual(
        NFS.readdirSync(root).filter((name) => name.startsWith(".periscope")),
        []
      )
      const hidden = yield* Effect.flip(store.put(".periscope-0123456789abcdef.tmp", "x"))
      assert.strictEqual(hidden.reason, "InvalidRequest")
    })
  )

  it.scopedLive("O2 a root that is a file, or goes away, is a missing container", () =>
    Effect.gen(function* () {
      const { root, store } = yield* opened()
      yield* store.put("file", "x")
      const inFile = yield* Folder.make({ root: join(root, "file") })
      assert.strictEqual((yield* Effect.flip(inFile.listPage())).reason, "MissingContainer")
      assert.strictEqual((yield* Effect.flip(inFile.put("a", "x"))).reason, "MissingContainer")
      NFS.rmSync(root, { recursive: true })
      assert.strictEqual((yield* Effect.flip(store.listPage())).reason, "MissingContainer")
    })
  )

  it("a root that is none throws at once; the configuration says so typed", () => {
    assert.throws(() => Folder.make({ root: "" }), /Folder: `root` is ""/)
    const fromConfig = (root: string) =>
      Effect.runSync(
        Effect.either(
          Effect.provide(
            Effect.map(ObjectStore.ObjectStore, ({ identity }) => identity),
            Layer.provide(
              Folder.layerConfig({ root: Config.string("ROOT") }),
              Layer.setConfigProvider(ConfigProvider.fromMap(new Map([["ROOT", root]])))
            )
          )
        )
      )
    assert.deepStrictEqual(fromConfig("/srv/a b/"), Either.right("file:///srv/a%20b"))
    assert.isTrue(Either.isLeft(fromConfig("")))
  })
})
