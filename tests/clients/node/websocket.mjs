// Node's own WebSocket, as in browsers: websocket.mjs URL AGENT TEXT. Creates a run, loses the socket in the middle of
// the answer, watches again from the cursor on a new one, and prints every event.
const [url, agent, input] = process.argv.slice(2)

function open(request, onMessage) {
  const socket = new WebSocket(url)
  socket.addEventListener('open', () => socket.send(JSON.stringify(request)))
  socket.addEventListener('message', (message) => onMessage(socket, JSON.parse(message.data)))
}

let cursor = 0
open({ type: 'create', id: 1, agent_id: agent, input }, (socket, said) => {
  if (said.type === 'result') console.log(JSON.stringify({ type: said.type, id: said.id, of: said.of }))
  if (!said.seq || cursor) return
  console.log(JSON.stringify(said))
  if (said.type !== 'part.delta') return
  cursor = said.seq // what comes after this is of the next socket
  socket.close()
  open({ type: 'watch', id: 2, run_id: said.run_id, after: cursor }, (second, event) => {
    if (!event.seq) return
    console.log(JSON.stringify(event))
    if (event.type === 'run.ended') second.close()
  })
})
