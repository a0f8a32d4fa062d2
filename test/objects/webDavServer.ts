/** Debian's Apache with mod_dav on loopback, with a folder for each test. */
import { Effect, Redacted } from "effect"
import * as NFS from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import type { Server } from "../servers/installed.js"
import { freePort, startProcess } from "../servers/serverProcess.js"

const modules = "/usr/lib/apache2/modules"

export const apache: Server = {
  name: "Apache with mod_dav",
  commands: ["apache2", "openssl"],
  files: [`${modules}/mod_dav.so`, `${modules}/mod_dav_fs.so`],
  install: "apt-get install --no-install-recommends apache2 openssl"
}

export const basicAuth = { username: "tester", password: Redacted.make("geheim %&") }

const script = fileURLToPath(new URL("../servers/webdav.sh", import.meta.url))

/** Starts the server; it ends with the scope. */
export const startWebDav = Effect.gen(function* () {
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => NFS.mkdtempSync(join(tmpdir(), "periscope-webdav-"))),
    (folder) => Effect.sync(() => NFS.rmSync(folder, { recursive: true, force: true }))
  )
  // Apache serves as another user than root
  NFS.chmodSync(folder, 0o755)
  const port = yield* freePort
  const place = join(folder, "server")
  const { password, username } = basicAuth
  yield* startProcess({ command: "bash", args: [script, place, `${port}`, username, Redacted.value(password)], port })
  let made = 0
  const owner = NFS.statSync(join(place, "files"))
  return {
    files: join(place, "files"),
    url: `http://127.0.0.1:${port}/dav/`,
    /** The address of a new, empty folder, and where it is on disk. */
    folder: Effect.sync(() => {
      const name = `folder ${++made}`
      const path = join(place, "files", name)
      NFS.mkdirSync(path)
      NFS.chownSync(path, owner.uid, owner.gid)
      return { path, url: `http://127.0.0.1:${port}/dav/${encodeURIComponent(name)}/` }
    })
  }
})
