/**
 * A bucket that costs its server as little as possible: prepared pages of 1000 keys, sent to whoever asks, by the token of the
 * page. Signatures are not looked at. `node s3Server.js <keys>`
 */
import { createServer, type AddressInfo } from "node:net"
import { serve } from "./processes.js"

const keys = Number(process.argv[2] ?? 100_000)
const perPage = 1000

const digits = (n: number): string => String(n).padStart(8, "0")

const contents = (n: number): string => {
  const hash = ((n * 2_654_435_761) >>> 0).toString(16).padStart(8, "0").repeat(4)
  return (
    `<Contents><Key>part-${digits(n)}-of-the-export.json</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>` +
    `<ETag>&quot;${hash}&quot;</ETag><Size>${n * 7}</Size><StorageClass>STANDARD</StorageClass></Contents>`
  )
}

const page = (first: number): Buffer => {
  const last = Math.min(first + perPage, keys)
  const isLast = last === keys
  const body = [
    '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">',
    `<Name>bucket-1</Name><Prefix></Prefix>${isLast ? "" : `<NextContinuationToken>${last}</NextContinuationToken>`}`,
    `<KeyCount>${last - first}</KeyCount><MaxKeys>${perPage}</MaxKeys><EncodingType>url</EncodingType>`,
    `<IsTruncated>${!isLast}</IsTruncated>`,
    ...Array.from({ length: last - first }, (_, index) => contents(first + index)),
    "</ListBucketResult>"
  ].join("")
  const head = `HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: ${body.length}\r\n\r\n`
  return Buffer.from(head + body, "latin1")
}

const pages = new Map<string, Buffer>()
for (let first = 0; first < keys; first += perPage) pages.set(first === 0 ? "" : String(first), page(first))

const server = createServer({ noDelay: true }, (socket) => {
  let received = ""
  socket.on("data", (bytes) => {
    received += bytes.toString("latin1")
    for (let end = received.indexOf("\r\n\r\n"); end >= 0; end = received.indexOf("\r\n\r\n")) {
      const token = /^GET [^ ]*[?&]continuation-token=(\d+)/.exec(received)?.[1] ?? ""
      socket.write(pages.get(token)!)
      received = received.slice(end + 4)
    }
  })
  socket.on("error", () => {})
  socket.on("end", () => socket.end())
})

const listening = new Promise<number>((resolve) => {
  server.listen(0, "127.0.0.1", () => resolve((server.address() as AddressInfo).port))
})

serve(async (): Promise<{ readonly port: number }> => ({ port: await listening }))
