"""Names that every worker uses, interned side by side; see `benchmarks/hot_names.py`.

Until Python 3.12, the use of a name writes to it, and a worker copies the page that it is on. The
launcher imports this first, before it makes other names. A name too many or too few does no harm.
"""

import sys

_WORDS = """
_owners _recording _crash THREAD STREAM _is_query _fast_decoder checking _interval _serves_paused
take_over_loggers _marks _pattern callers _arguments _places _stride _traces SIZE BatchesRead
batches _items _unused _free _without _methods redact_control note_turn received _counts _take
_grace _had_supervisor _alone_since set_supervisor _is_there rearm expect_beat is_orphaned _libc
timer_create timer_settime signo sec nsec _components_changed start_service _prepared _direct
_recorder _new_session _loop_watch _service _phase _drain _extended_until _extension _seq _heartbeat
_manifest _update_pending _parents _reaper watch_forks _caller_ended _on_call _on_cancel _on_credit
_introduce _beat _silence _send_beat alone is_due _routes watch_path act _to _links _internal _bound
_hops spans note_model _answer _stopping_since should_evaluate evaluate run_task pass_dead_letter
_most_of_one _reserved _sent_at _clock _logged_at _turned _tick _unanswered _reply _cut _of _every
config_class worker_services do_without exited _Loop__sighandler _send_queued _synced unreachable
links _is_final _requests _welcomed _last_words malformed _on_failed _on_refused _on_item _on_ended
_on_synced _on_passed on_control _batch_limit on_bus remote batch_read _welcome welcomed _change
wait_welcome _announce wake synced _max_message _posted _batches _unnumbered _pack _sent_early
_trimmer _trimming _post _post_batch _post_queued _waiting _message _acknowledged _news _ids
_note_use _post_frames _drain_backlog opening _opening _frame_most _malformed _keep _greeted _takes
_current _due _again _connect _drop feed is_ready _hand_over _on_end _path_watch _most _frames_most
_flags _take_greeting _pidfd _elsewhere _idle Config _named _positional emit_soon _background
_events _reports _redact _data_folder _emit _cooling _optional _components _subscribe _cooled _agent
_pending _provider _losses applies _absences _lateness _changed _watch saw _running _until _late
_emitting send_handlers add_to_manifest _secrets _withheld _not_granted _config_keys _api
finished_because serving _starting _watches _end _until_ended register_send_handlers _at of_beat
_runtime _place _assignment bus recorder curve withheld timing chaos restarted_by not_granted traces
serve syncs stuck waiting in_flight facts incidents beat subscribe dependencies logs providers
evaluators models mail_window attributes gate task_workers former _calls _now _bytes _turn_open
_busy _in_flight _end_turn _send _timer _id _own send_queued observer _peers _deadlines _routed
_peer takes waiting_bytes _dispatch deadlines answered renew _lose _settle_waiting blocked
disordered usual directory _directory _rows _entries apply capability_description _client proxies
_where __garrison_idempotent__ on_service_change _forget_methods on_listing make_proxy
supervisor_gone on_change due_at _rest _left _last StreamLink send_data _supervisor _worker
_limited_by_welcome on_supervisor_end watch_supervisor new_event_loop add_reader _get_event_loop
add_signal_handler _asyncio_future_blocking _log_traceback _outgoing draining _on_completion _init
_queue paused _tasks _zombies _server _failure _name_of _frames decode_assignment take actions
_listener _refused identity peer _unsent Plugin Service service decode_data decode_downward Beat
Changed Delisted Hello Initialized Listed Ready Welcome Cancel Failed Frames Item Reply Sync Synced
NIL control manifest _encode frames attribution refused direct boot generation redact headers
producer max_message _mailbox loop create_future posts _loop set_result _backlog _thread_id
create_task isfuture ensure_future FIRST_COMPLETED call_later set_task_factory
_asyncgen_finalizer_hook _asyncgen_firstiter_hook _get_running_loop _log_destroy_pending
add_done_callback remove_done_callback run_until_complete call_soon model _cancelled RUNNING _result
LOCK_EX _context tmp batch _created _decoder gettempdir uid free _warn _kept PyObject_Malloc
PAGESIZE _receive Task _serve Lock Event Barrier _waiters notify _cond _value _flag is_set
_reset_internal_locks _commit_removals _pending_removals _ident ident interval finished
weakcontainer _weakrefset _iterating _identity logger session _session position _open setFormatter
formatter getLogger validation_pattern _fmt validate _handlers delay manager ids libc threads
Decoder Encoder config counts client mail tombstones _descriptor _missing _held _file _follow_at
done held _write begin ctypes CDLL prctl _restype_ _flags_ restype byref from_param _FuncPtr
_func_flags_ _handle handle _check_retval_ folder string_at task of pack unpack_from _fields_
terminal numbers _words _settings _number _ended _remove working_directory services start_timeout
watchdog task_errors health_interval calls window window_bytes record_values open_files most secrets
plugin service_type agent with_parts priority environment use ending lease __struct_fields__
getattr_static asdict MsgpackDecoder flock annotation iscoroutinefunction return_annotation
CO_VARARGS set_name isawaitable iscoroutine trace kind token function context _parameter_cls
KEYWORD_ONLY from_callable _signature _parameters Call argtypes handlers ASYNC Any is_supported _drv
_parts _str _from_parts _flavour _parse_args stem gid MARK _code unwrap parameters _caller init
__supertype__ msgpack structs max_length description __signature__ deque parts log coro gen _enter
_map return call left popleft assigned _partialmethod weakref GeneratorType CoroutineType
become_subreaper orphan_grace started failed _orphan_grace _ending _started _socket busy poll _wait
_read due POLLIN events ended changed report limits wanted peek_ended now reap preload socket
get_ready follow _begin grace launcher _launcher event recv_fds problem install set_debug get_debug
_value2member_map_ _member_map_ _name_ _missing_ ready _io_refs _closed SOCK_STREAM timeout
_real_close SOL_SOCKET SCM_RIGHTS address AF_UNIX bind connect setsockopt SO_SNDBUF
_from_parsed_parts _format_parsed_parts __basicsize__ __annotations__ removeprefix __objclass__
__func__ __wrapped__ co_flags co_filename co_varnames run co_posonlyargcount co_kwonlyargcount
fromkeys f_back f_code __defaults__ __kwdefaults__ cast itemsize children flush closed __origin__
set_asyncgen_hooks get_asyncgen_hooks reason _getframe start_new_thread _acquire_restore __weakref__
_count _at_fork_reinit _release_save thread waitid WNOHANG O_RDWR set_inheritable sync
posix_fallocate getppid detach pthread_getcpuclockid nice posix_spawn posix_spawnp umask getpid
O_APPEND O_CLOEXEC O_NOFOLLOW P_ALL WEXITED WNOWAIT st_mtime_ns is_file enable clock_gettime
monotonic monotonic_ns pthread_sigmask SIG_SETMASK SIGKILL SIGTERM
"""
NAMES = [sys.intern(name) for name in _WORDS.split()]  # kept: a name that is unused is freed
