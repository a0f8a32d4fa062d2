/**
 * Runs the storage emulator of firebase-tools alone: `node gcsEmulator.js <folder of firebase-tools> <port>`. Its command line wants
 * a Java runtime for rules, which the JSON API of Cloud Storage does not use.
 */
import { mkdtempSync, rmSync } from "node:fs"
import { createRequire } from "node:module"
import { tmpdir } from "node:os"
import path from "node:path"

const [, , folder, port] = process.argv
const require = createRequire(path.join(folder, "package.json"))
const { StorageEmulator } = require("./lib/emulator/storage/index.js")
const { EmulatorRegistry } = require("./lib/emulator/registry.js")

const files = mkdtempSync(path.join(tmpdir(), "gcs-emulator-"))
StorageEmulator.prototype.getPersistenceTmpDir = () => files
const emulator = new StorageEmulator({
  host: "127.0.0.1",
  port: Number(port),
  projectId: "demo-test",
  rules: { name: "storage.rules", content: "" }
})
const nothing = () => Promise.resolve()
emulator._rulesRuntime = { start: nothing, stop: nothing }
emulator._rulesManager = { start: nothing, stop: nothing, getRuleset: () => undefined }

const end = () => {
  rmSync(files, { recursive: true, force: true })
  process.exit(0)
}
process.stdin.resume().on("end", end)
process.on("SIGTERM", end)
await EmulatorRegistry.start(emulator)
