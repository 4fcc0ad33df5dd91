"""Which test covers which fault of the ledger.

28  fifty redemptions at once           test_races: fifty_redemptions_at_once…, and its twin without the guard
29  the same redemption again and again test_races: same_redemption_twenty_times…; test_api: repeated_request…
30  same key, other amount              test_api: another_body_under_the_same_key; test_ledger: KeyReused
31  refund after points were spent      test_ledger, test_earning: the debt, and what repays it; holds: test_ledger_holds
32  parts of a refund                   test_earning: seven parts, and any split (Hypothesis)
33  rule changed before the refund      test_earning
34  refund before its order, or twice   test_earning
35  redeemed while it expires           test_races; a hold that runs out while it is posted: test_races_holds
36  expiry twice, or killed             test_races: ten kills
37  cancelled, but ended meanwhile      test_ledger; as of past dates: test_liability
38  the database refuses a rewrite      test_ledger; who drops the trigger: test_freezing
39  a balance that was tampered with    test_audit, test_freezing: that account alone is frozen, health says so
40  a voucher of limit one              test_vouchers
41  two customers become one            test_ledger_transfers; any sequence: test_ledger_stateful; at once: test_races_holds
"""
