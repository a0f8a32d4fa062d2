/**
 * Listing a bucket: keys a second and the peak of memory, by ways to list it, each in a process of its own.
 *
 * First from a server that sends prepared pages, where the client is what takes time; then, where it is installed, from Ceph RGW,
 * where the server is. `S3_KEYS` and `S3_RGW_KEYS` change how many keys there are; 0 leaves one out.
 */
import { Effect, Redacted, Stream } from "effect"
import { S3 } from "effect-periscope/objects"
import * as NodeClient from "effect-periscope/http/NodeClient"
import { execFile, spawn, spawnSync } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { createServer, type AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import path from "node:path"
import { fileURLToPath } from "node:url"
import { AwsV4Signer } from "aws4fetch"
import { median, table } from "./measure.js"
import { start } from "./processes.js"

export interface Bucket {
  readonly endpoint: string
  readonly bucket: string
}

export interface Listed {
  readonly keys: number
  /** The sum of all sizes, to see that all of them were read. */
  readonly bytes: number
  readonly millis: number
  readonly cpuMicros: number
  readonly maxRssBytes: number
}

const reference = "S3.layer, NodeClient.layer: list"

const names: Record<string, string> = {
  ours: reference,
  rawUndici: "undici.request, aws4fetch and our scanner",
  s3mini: "s3mini: listObjectsPaged",
  sdk: "@aws-sdk/client-s3: paginateListObjectsV2",
  rclone: "rclone lsf (whole process)"
}

const number = (name: string, fallback: number): number => Number(process.env[name] ?? fallback)

const has = (command: string): boolean => spawnSync("sh", ["-c", `command -v ${command}`]).status === 0

/** Runs rclone once; its memory is what the kernel says just before the end. */
const rclone = ({ bucket, endpoint }: Bucket): Promise<Listed> =>
  new Promise((resolve, reject) => {
    const begin = performance.now()
    let maxRssBytes = 0
    const remote = `:s3,provider=Other,access_key_id=AKTEST,secret_access_key=SKTEST,endpoint='${endpoint}',list_version=2,no_check_bucket=true:${bucket}`
    const child = execFile(
      "rclone",
      ["lsf", "--format", "ps", remote],
      { maxBuffer: 2 ** 30, env: { PATH: process.env.PATH } },
      (error, lines) => {
        clearInterval(watching)
        if (error !== null) return reject(error)
        const millis = performance.now() - begin
        const sizes = lines
          .trimEnd()
          .split("\n")
          .map((line) => Number(line.slice(line.lastIndexOf(";") + 1)))
        resolve({
          keys: sizes.length,
          bytes: sizes.reduce((a, b) => a + b, 0),
          millis,
          cpuMicros: Number.NaN,
          maxRssBytes
        })
      }
    )
    const watching = setInterval(() => {
      const peak = /VmHWM:\s+(\d+) kB/.exec(statusOf(child.pid!))?.[1]
      if (peak !== undefined) maxRssBytes = Number(peak) * 1024
    }, 20)
  })

const statusOf = (pid: number): string => {
  try {
    return readFileSync(`/proc/${pid}/status`, "utf8")
  } catch {
    return ""
  }
}

const rounds = 5
const untilCompiled = 8

const measure = async (title: string, bucket: Bucket, keys: number, bytes: number, warmUps: number): Promise<void> => {
  const children = new Map(
    Object.keys(names)
      .filter((rival) => rival !== "rclone")
      .map((rival) => [rival, start<Bucket, Listed>("./s3Client.js", rival)])
  )
  const ways = new Map<string, () => Promise<Listed>>(
    [...children].map(([rival, child]) => [rival, () => child.ask(bucket)])
  )
  if (has("rclone")) ways.set("rclone", () => rclone(bucket))
  else console.log("\nrclone is left out: it is not installed (apt-get install rclone)")
  try {
    const results = new Map<string, Array<Listed>>()
    for (let round = -warmUps; round < rounds; round++) {
      for (const [rival, list] of ways) {
        if (round < -1 && rival === "rclone") continue
        const listed = await list()
        if (listed.keys !== keys || listed.bytes !== bytes) {
          throw new Error(`${rival}: ${listed.keys} keys of ${keys}, ${listed.bytes} bytes of ${bytes}`)
        }
        if (round >= 0) results.set(rival, [...(results.get(rival) ?? []), listed])
      }
    }
    table(
      `${title}, ${keys} keys, median of ${rounds} rounds`,
      "us/key",
      [...results].map(([rival, all]) => {
        const millis = median(all.map((listed) => listed.millis))
        const cpuMicros = median(all.map((listed) => listed.cpuMicros))
        const rss = Math.max(...all.map((listed) => listed.maxRssBytes)) / 2 ** 20
        const processor = Number.isNaN(cpuMicros) ? "" : `, ${(cpuMicros / keys).toFixed(1)} us of processor a key`
        return {
          name: names[rival]!,
          value: (millis * 1000) / keys,
          note: `${((keys / millis) * 1000).toFixed(0).padStart(7)} keys/s, RSS ${rss.toFixed(0)} MB${processor}`
        }
      }),
      reference
    )
  } finally {
    await Promise.all([...children.values()].map((child) => child.stop()))
  }
}

const onStaticServer = async (keys: number): Promise<void> => {
  const server = start<object, { readonly port: number }>("./s3Server.js", String(keys))
  try {
    const { port } = await server.ask({})
    const bucket = { endpoint: `http://127.0.0.1:${port}`, bucket: "bucket-1" }
    await measure("Listing from a server of prepared pages", bucket, keys, (7 * keys * (keys - 1)) / 2, untilCompiled)
  } finally {
    await server.stop()
  }
}

const freePort = (): Promise<number> =>
  new Promise((resolve) => {
    const server = createServer()
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo
      server.close(() => resolve(port))
    })
  })

const credentials = { accessKeyId: "AKTEST", secretAccessKey: "SKTEST" }

/** Waits until the server takes its keys, and makes the bucket. */
const createBucket = async ({ bucket, endpoint }: Bucket): Promise<void> => {
  const url = `${endpoint}/${bucket}`
  for (let attempt = 0; ; attempt++) {
    const keys = { ...credentials, service: "s3", region: "us-east-1" }
    const { headers } = await new AwsV4Signer({ url, method: "PUT", ...keys }).sign()
    const status = await fetch(url, { method: "PUT", headers }).then(
      (response) => response.status,
      () => 0
    )
    if (status === 200) return
    if (attempt > 200) throw new Error(`Ceph RGW does not make a bucket (${status})`)
    await new Promise((resolve) => setTimeout(resolve, 300))
  }
}

const fill = ({ bucket, endpoint }: Bucket, keys: number): Promise<void> =>
  S3.make({
    bucket,
    endpoint,
    region: "us-east-1",
    credentials: { ...credentials, secretAccessKey: Redacted.make(credentials.secretAccessKey) }
  }).pipe(
    Effect.flatMap((store) =>
      Stream.range(0, keys - 1).pipe(
        Stream.mapEffect((n) => store.put(`part-${String(n).padStart(8, "0")}-of-the-export.json`, "x"), {
          concurrency: 32,
          unordered: true
        }),
        Stream.runDrain
      )
    ),
    Effect.provide(NodeClient.layer({ connections: 32 })),
    Effect.runPromise
  )

const onRgw = async (keys: number): Promise<void> => {
  if (!has("radosgw")) {
    console.log("\nCeph RGW is left out: it is not installed (apt-get install radosgw ceph-mon ceph-osd)")
    return
  }
  const folder = mkdtempSync(path.join(tmpdir(), "periscope-bench-rgw-"))
  const [port, monitorPort] = [await freePort(), await freePort()]
  const script = fileURLToPath(new URL("../../test/servers/rgw.sh", import.meta.url))
  const server = spawn("bash", [script, folder, String(port), String(monitorPort)], {
    detached: true,
    stdio: ["pipe", "ignore", "ignore"]
  })
  const ended = new Promise<void>((resolve) => server.once("close", () => resolve()))
  try {
    const bucket = { endpoint: `http://127.0.0.1:${port}`, bucket: "bucket-1" }
    await createBucket(bucket)
    await fill(bucket, keys)
    await measure("Listing from Ceph RGW", bucket, keys, keys, 1)
  } finally {
    process.kill(-server.pid!, "SIGTERM")
    const late = setTimeout(() => process.kill(-server.pid!, "SIGKILL"), 2000)
    await ended
    clearTimeout(late)
    rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 })
  }
}

export const s3 = async (): Promise<void> => {
  const [keys, rgwKeys] = [number("S3_KEYS", 100_000), number("S3_RGW_KEYS", 20_000)]
  if (keys > 0) await onStaticServer(keys)
  if (rgwKeys > 0) await onRgw(rgwKeys)
}
