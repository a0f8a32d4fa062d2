/**
 * One way to list a bucket, in a process of its own: asked for a listing, it walks the whole bucket and holds on to nothing.
 */
import { paginateListObjectsV2, S3Client } from "@aws-sdk/client-s3"
import * as Undici from "@effect/platform-node/Undici"
import { AwsV4Signer } from "aws4fetch"
import type { Chunk } from "effect"
import { Effect, Either, Layer, ManagedRuntime, Redacted, Stream } from "effect"
import * as NodeClient from "effect-periscope/http/NodeClient"
import { S3, ObjectStore } from "effect-periscope/objects"
import { S3mini } from "s3mini"
import { scan } from "../../dist/objects/s3Listing.js"
import { cpu } from "./measure.js"
import { serve } from "./processes.js"
import type { Bucket, Listed } from "./s3.js"

/** Counts the keys, and the bytes that the listing says they have. */
interface Sum {
  keys: number
  bytes: number
}

type Rival = (bucket: Bucket) => Promise<Sum>

const accessKeyId = "AKTEST"
const secretAccessKey = "SKTEST"
const region = "us-east-1"

const once = <A, B>(make: (a: A) => B): ((a: A) => B) => {
  let made: B | undefined
  return (a) => (made ??= make(a))
}

const runtime = once(({ bucket, endpoint }: Bucket) =>
  ManagedRuntime.make(
    S3.layer({
      bucket,
      endpoint,
      region,
      credentials: { accessKeyId, secretAccessKey: Redacted.make(secretAccessKey) }
    }).pipe(Layer.provide(NodeClient.layer()))
  )
)

const ours: Rival = (bucket) =>
  runtime(bucket).runPromise(
    Effect.flatMap(ObjectStore.ObjectStore, (store) => {
      const sum = { keys: 0, bytes: 0 }
      const count = (objects: Chunk.Chunk<ObjectStore.ObjectMeta>) =>
        Effect.sync(() => {
          for (const { size } of objects) {
            sum.keys++
            sum.bytes += size
          }
        })
      return Effect.as(Stream.runForEachChunk(store.list(), count), sum)
    })
  )

const agent = once((_: Bucket) => new Undici.Agent({ keepAliveTimeout: 60_000 }))
const signingKeys = new Map<string, ArrayBuffer>()

const rawUndici: Rival = async (at) => {
  const sum = { keys: 0, bytes: 0 }
  const dispatcher = agent(at)
  let token: string | undefined
  do {
    const url = `${at.endpoint}/${at.bucket}/?list-type=2&encoding-type=url&max-keys=1000${token === undefined ? "" : `&continuation-token=${encodeURIComponent(token)}`}`
    const keys = { accessKeyId, secretAccessKey, service: "s3", region, cache: signingKeys }
    const { headers } = await new AwsV4Signer({ url, ...keys }).sign()
    const { body } = await Undici.request(url, { dispatcher, headers: Object.fromEntries(headers) })
    const page = Either.getOrThrow(scan(new Uint8Array(await body.arrayBuffer())))
    for (const { size } of page.objects) {
      sum.keys++
      sum.bytes += size
    }
    token = page.next
  } while (token !== undefined)
  return sum
}

const sdkClient = once(
  ({ endpoint }: Bucket) =>
    new S3Client({ endpoint, region, forcePathStyle: true, credentials: { accessKeyId, secretAccessKey } })
)

const sdk: Rival = async (at) => {
  const sum = { keys: 0, bytes: 0 }
  for await (const page of paginateListObjectsV2({ client: sdkClient(at) }, { Bucket: at.bucket })) {
    for (const { Size = 0 } of page.Contents ?? []) {
      sum.keys++
      sum.bytes += Size
    }
  }
  return sum
}

const miniClient = once(
  ({ bucket, endpoint }: Bucket) =>
    new S3mini({ endpoint: `${endpoint}/${bucket}`, region, accessKeyId, secretAccessKey })
)

const s3mini: Rival = async (at) => {
  const sum = { keys: 0, bytes: 0 }
  const client = miniClient(at)
  let token: string | undefined
  do {
    const page = await client.listObjectsPaged("/", "", 1000, token)
    for (const { Size } of page?.objects ?? []) {
      sum.keys++
      sum.bytes += Number(Size)
    }
    token = page?.nextContinuationToken
  } while (token !== undefined)
  return sum
}

const rivals: Record<string, Rival> = { ours, rawUndici, sdk, s3mini }

const rival = rivals[process.argv[2] ?? ""]!

serve(async (bucket: Bucket): Promise<Listed> => {
  const before = process.cpuUsage()
  const start = performance.now()
  const { bytes, keys } = await rival(bucket)
  const millis = performance.now() - start
  return { keys, bytes, millis, cpuMicros: cpu(before), maxRssBytes: process.resourceUsage().maxRSS * 1024 }
})
