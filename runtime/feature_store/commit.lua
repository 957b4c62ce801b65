#!lua name=fraud_VERSION

-- The feature store's functions; `feature_store` loads and calls them. It puts a hash of this text
-- in place of VERSION: names of functions are valid on the whole server, which processes of
-- another version of this code may use as well.
-- Checks come first and writes after, so a rejected call has written nothing.
-- Keys and arguments come in the order of the counts; nothing is unpacked onto
-- Lua's stack, whose limit is about 8,000 values.

-- KEYS: epoch per partition, cursor hash per advance, outbox per partition,
--       card..., fold..., append...
-- ARGV: ttl in ms, header of a new shared entity, the six counts, how many of the appends (the
--       last ones) were given their expiry lately, then
--       epoch... | topic, expected, next... | outbox... | card...
--       | generation (4 bytes), length, value, records... | records...
local function commit(keys, args)
  local call = redis.call
  local ttl, header = args[1], args[2]
  local epochs, advances, outboxes = tonumber(args[3]), tonumber(args[4]), tonumber(args[5])
  local cards, folds, appends = tonumber(args[6]), tonumber(args[7]), tonumber(args[8])
  local extended = appends - tonumber(args[9])
  local k, a = 0, 9

  for i = 1, epochs do
    local found = call('GET', keys[k + i])
    if found ~= args[a + i] then
      return keys[k + i] .. ' is ' .. tostring(found) .. ', this worker took ' .. args[a + i]
    end
  end
  k, a = k + epochs, a + epochs
  local first_advance_key, first_advance = k, a
  for i = 1, advances do
    local topic, expected = args[a + 1], args[a + 2]
    local found = call('HGET', keys[k + i], topic) or '-1'
    if found ~= expected then
      return keys[k + i] .. ' of ' .. topic .. ' is ' .. found .. ', this worker expected ' .. expected
    end
    a = a + 3
  end
  k = k + advances

  a = first_advance
  for i = 1, advances do
    call('HSET', keys[first_advance_key + i], args[a + 1], args[a + 3])
    a = a + 3
  end
  for i = 1, outboxes do
    if args[a + i] == '' then
      call('DEL', keys[k + i])
    else
      call('SET', keys[k + i], args[a + i])
    end
  end
  k, a = k + outboxes, a + outboxes
  for i = 1, cards do
    call('SET', keys[k + i], args[a + i], 'PX', ttl)
  end
  k, a = k + cards, a + cards

  -- A value of another type looks like a missing one to the worker (MGET), and is replaced.
  local function append(key, records, extend)
    local length = redis.pcall('APPEND', key, records)
    if length == #records or type(length) == 'table' then
      call('SET', key, header .. records, 'PX', ttl)
    elseif extend then
      call('PEXPIRE', key, ttl)
    end
  end
  for i = 1, folds do
    local key = keys[k + i]
    local length, head = redis.pcall('STRLEN', key), ''
    if type(length) == 'table' then
      length = 0
    else
      head = call('GETRANGE', key, 0, 3)
    end
    local generation = string.sub(head .. '\0\0\0\0', 1, 4) -- a damaged value may be shorter
    if generation == args[a + 1] and length == tonumber(args[a + 2]) then
      call('SET', key, args[a + 3], 'PX', ttl)
    else
      append(key, args[a + 4], true)
    end
    a = a + 4
  end
  k = k + folds
  for i = 1, appends do
    append(keys[k + i], args[a + i], i <= extended)
  end
  return ''
end

-- Returns the answer of a command on a key; an error that names the key if it cannot answer.
local function read(command, key)
  local answer = redis.pcall(command, key)
  if type(answer) == 'table' and answer.err then
    error({err = 'DAMAGED ' .. key})
  end
  return answer
end

-- KEYS: epoch, cursor hash, outbox. Returns the new epoch, the cursors as a flat list, the outbox.
local function acquire(keys)
  local cursors, outbox = read('HGETALL', keys[2]), read('GET', keys[3]) or ''
  return {read('INCR', keys[1]), cursors, outbox}
end

-- KEYS: hash of worker to "event time:expiry". ARGV: worker, event time or '', ttl in ms.
-- Returns worker, event time of the others that have not expired. What no worker wrote is removed.
local function watermark(keys, args)
  local clock = redis.call('TIME')
  local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
  local entries, others = read('HGETALL', keys[1]), {}
  if args[2] == '' then
    redis.call('HDEL', keys[1], args[1])
  else
    redis.call('HSET', keys[1], args[1], args[2] .. ':' .. string.format('%.0f', now + args[3]))
  end
  for i = 1, #entries, 2 do
    local time, expiry = string.match(entries[i + 1], '^(%-?%d+):(%d+)$')
    if entries[i] ~= args[1] then
      if not time or #time > 20 or tonumber(expiry) <= now then
        redis.call('HDEL', keys[1], entries[i])
      else
        others[#others + 1] = entries[i]
        others[#others + 1] = time
      end
    end
  end
  return others
end

-- KEYS: any key under the prefix. ARGV: commands, in which KEY stands for that key.
-- Returns those of the commands that the calling user may not run.
local function rights(keys, args)
  local denied = {}
  for _, command in ipairs(args) do
    local words = {}
    for word in string.gmatch(command, '%S+') do
      words[#words + 1] = word == 'KEY' and keys[1] or word
    end
    if not redis.acl_check_cmd(unpack(words)) then
      denied[#denied + 1] = command
    end
  end
  return denied
end

redis.register_function('fraud_commit_VERSION', commit)
redis.register_function('fraud_acquire_VERSION', acquire)
redis.register_function('fraud_watermark_VERSION', watermark)
redis.register_function{function_name='fraud_rights_VERSION', callback=rights, flags={'no-writes'}}
