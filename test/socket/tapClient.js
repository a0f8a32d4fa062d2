/**
 * Another client of Tap, run under the Node that it needs: `tapClient.js atproto|atcute repos|follow url password`.
 *
 * `repos` prints what the management API answers, as one line of JSON. `follow` prints each event as such a line, waits as long as the
 * record says (`waitMillis`), acknowledges it and prints `{"acked":id}`, errors as `{"error":…}`, until it is killed. An empty
 * password is none.
 */
import path from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"

const modules = fileURLToPath(new URL("../../.generated/tap-clients/node_modules/", import.meta.url))
const load = (file) => import(pathToFileURL(path.join(modules, file)).href)

const [client, mode, url, adminPassword] = process.argv.slice(2)
const isOfficial = client === "atproto"
const { Tap } = isOfficial ? await load("@atproto/tap/dist/index.js") : {}
const { TapClient } = isOfficial ? {} : await load("@atcute/tap/dist/index.js")

const print = (value) => process.stdout.write(`${JSON.stringify(value)}\n`)
const messageOf = (error) => [error?.message ?? String(error), error?.cause?.message].filter(Boolean).join(": ")
const handle = async (event, ack) => {
  print(event)
  await new Promise((resolve) => setTimeout(resolve, event.record?.waitMillis ?? 0))
  await ack()
  print({ acked: event.id })
}

const clientOf = (password = "") =>
  isOfficial
    ? new Tap(url, password === "" ? {} : { adminPassword: password })
    : new TapClient({ url, ...(password === "" ? {} : { adminPassword: password }) })

if (mode === "repos") {
  const tap = clientOf(adminPassword)
  await tap.addRepos(["did:plc:alice", "did:plc:gone"])
  await tap.removeRepos(["did:plc:gone"])
  print({
    info: await tap.getRepoInfo("did:plc:alice"),
    gone: await tap.getRepoInfo("did:plc:gone").catch(messageOf),
    document: await tap.resolveDid("did:plc:alice"),
    missing: await tap.resolveDid("did:plc:gone"),
    locked: await clientOf("wrong").addRepos(["did:plc:eve"]).catch(messageOf)
  })
} else if (isOfficial) {
  const onEvent = (event, { ack }) => handle(event, ack)
  const handler = { onEvent, onError: (error) => print({ error: messageOf(error) }) }
  await clientOf(adminPassword).channel(handler, { maxReconnectSeconds: 1 }).start()
} else {
  const onError = (error) => print({ error: messageOf(error) })
  for await (const { ack, event } of clientOf(adminPassword).subscribe({ onError })) {
    await handle(event, ack)
  }
}
