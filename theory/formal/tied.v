(* Tied weights: edges share parameters, as those of a convolution do (D1, C2, C3). *)
Set Warnings "-notation-overridden,-ambiguous-paths".
From mathcomp Require Import all_ssreflect all_algebra.
From Lop Require Import network derivative equitable.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory.
Local Open Scope ring_scope.

(* sums of numbers that depend on a key are equal if each key occurs equally often *)
Lemma sum_keys (R : ringType) (A B G : eqType) (s : seq A) (s' : seq B) (k : A -> G) (k' : B -> G) (f : A -> R) (f' : B -> R) :
  (forall x, count (fun a => k a == x) s = count (fun b => k' b == x) s') ->
  (forall a a', a \in s -> a' \in s -> k a = k a' -> f a = f a') ->
  (forall a b, a \in s -> b \in s' -> k a = k' b -> f a = f' b) ->
  \sum_(a <- s) f a = \sum_(b <- s') f' b.
Proof.
move=> cnt same same'; pose t x := if [seq a <- s | k a == x] is a :: _ then f a else 0.
have tE a : a \in s -> f a = t (k a).
  move=> sa; rewrite /t; have: a \in [seq a' <- s | k a' == k a] by rewrite mem_filter eqxx.
  case E: [seq _ <- s | _] => [//|a0 l] _; have: a0 \in [seq a' <- s | k a' == k a] by rewrite E mem_head.
  by rewrite mem_filter => /andP[/eqP ka sa0]; apply: same.
have tE' b : b \in s' -> f' b = t (k' b).
  move=> sb; have: has (fun a => k a == k' b) s by rewrite has_count cnt -has_count; apply/hasP; exists b.
  by case/hasP => a sa /eqP kab; rewrite -(same' _ _ sa sb kab) tE // kab.
rewrite (eq_big_seq _ tE) (eq_big_seq _ tE') -(big_map k xpredT t) -(big_map k' xpredT t); apply: perm_big.
by apply/allP => x _ /=; rewrite !count_map; apply/eqP/cnt.
Qed.

Section Tied.
Variables (R : comRingType) (V P : eqType) (N : net R V) (rk : V -> nat).
Hypothesis dag : acyclic_by N rk.
Notation us := (units N).
(* the parameter of each edge; an untied network has one of its own for each *)
Variable tie : V -> V -> P.
Definition tied (theta : P -> R) : weights R V := fun u v => theta (tie u v).
Definition links : seq (V * V) := [seq e <- [seq (u, v) | u <- us, v <- us] | edge N e.1 e.2].
Definition parameters : seq P := undup [seq tie e.1 e.2 | e <- links].
(* the sum of the gradients of all edges that share the parameter p *)
Definition tied_grad (theta : P -> R) (b : seq (sample R V)) (p : P) : R :=
  sumv links (fun e => tie e.1 e.2 == p) (fun e => grad N (tied theta) b e.1 e.2).

Lemma sum_links (F : V -> V -> R) : \sum_(v <- us) \sum_(u <- us | edge N u v) F u v = \sum_(e <- links) F e.1 e.2.
Proof.
rewrite [RHS]big_filter [RHS]big_mkcond [RHS]big_allpairs_dep [RHS]exchange_big /=; apply: eq_bigr => v _; exact: big_mkcond.
Qed.

(* it is the derivative of the loss in p: t moves the parameters *)
Theorem D1_tied theta t s :
  \sum_(v <- us | out N v) seed s v * eps (h_dual N (tied theta) (tied t) s v) =
  \sum_(p <- parameters) t p * tied_grad theta [:: s] p.
Proof.
rewrite (D1_derivative dag) (sum_links (fun u v => tied t u v * grad N (tied theta) [:: s] u v)).
under [RHS]eq_bigr do rewrite /tied_grad sumvE mulr_sumr big_mkcond; rewrite exchange_big /=.
rewrite big_seq [RHS]big_seq; apply: eq_bigr => e e_in.
rewrite (bigD1_seq (tie e.1 e.2)) ?undup_uniq ?mem_undup //=; last by apply/mapP; exists e.
by rewrite eqxx big1 ?addr0 // => p; rewrite eq_sym => /negPf->.
Qed.

(* Parameters that move together: those of one group.  They join each pair of blocks equally often (profile), and each group
   has an equitable pattern of edges.  The group of an untied edge is its pair of blocks, which is C3. *)
Variables (K G : eqType) (c : V -> K) (group : P -> G).
Definition profile p j i := count (fun e => [&& tie e.1 e.2 == p, c e.1 == j & c e.2 == i]) links.
Definition same_profiles := forall p q, group p = group q -> forall j i, profile p j i = profile q j i.
Definition tied_pattern :=
  (forall x j v v', c v = c v' -> count (fun u => [&& edge N u v, c u == j & group (tie u v) == x]) us =
                                  count (fun u => [&& edge N u v', c u == j & group (tie u v') == x]) us) /\
  (forall x i u u', c u = c u' -> count (fun v => [&& edge N u v, c v == i & group (tie u v) == x]) us =
                                  count (fun v => [&& edge N u' v, c v == i & group (tie u' v) == x]) us).
Definition together (X : Type) (t : P -> X) := forall p q, group p = group q -> t p = t q.

Hypothesis adm : admissible N c.
Hypothesis profiles : same_profiles.
Theorem C2_tied theta b : RE N c (tied theta) -> CE N c (tied theta) -> together (tied_grad theta b).
Proof.
move=> re ce p q pq; pose g (e : V * V) := grad N (tied theta) b e.1 e.2; pose blocks (e : V * V) := (c e.1, c e.2).
have gE e e' : blocks e = blocks e' -> g e = g e' by case=> ce1 ce2; exact: (C2_gradient dag adm b re ce).
rewrite /tied_grad !sumvE -[LHS]big_filter -[RHS]big_filter.
apply: (sum_keys (k := blocks) (k' := blocks) (f := g) (f' := g)) => [[j i]|e e' _ _|e e' _ _]; [|exact: gE|exact: gE].
rewrite [LHS]count_filter [RHS]count_filter; have := profiles pq j i; rewrite /profile /blocks => cnt.
by apply: (etrans _ (etrans cnt _)); apply: eq_count => e /=; rewrite xpair_eqE; case: (tie _ _ == _); rewrite ?andbF ?andbT.
Qed.

Hypothesis pattern : tied_pattern.
Lemma tied_shift a theta t : together t -> RE N c (tied theta) -> CE N c (tied theta) ->
  RE N c (tied (fun p => a * theta p + t p)) /\ CE N c (tied (fun p => a * theta p + t p)).
Proof.
move=> tog re ce; have [pin pout] := pattern; rewrite /tied; split=> [j v v' cv|i u u' cu]; rewrite !big_split -!mulr_sumr /=.
  congr (_ * _ + _); first exact: re.
  rewrite -[LHS]big_filter -[RHS]big_filter.
  apply: (@sum_keys _ _ _ _ _ _ (fun u => group (tie u v)) (fun u => group (tie u v'))) => [x|* |*]; [|exact: tog|exact: tog].
  rewrite !count_filter; apply: (etrans _ (etrans (pin x j _ _ cv) _)); apply: eq_count => u /=;
  by case: (edge N u _) => /=; rewrite ?andbF // andbC.
congr (_ * _ + _); first exact: ce.
rewrite -[LHS]big_filter -[RHS]big_filter.
apply: (@sum_keys _ _ _ _ _ _ (fun v => group (tie u v)) (fun v => group (tie u' v))) => [x|* |*]; [|exact: tog|exact: tog].
rewrite !count_filter; apply: (etrans _ (etrans (pout x i _ _ cu) _)); apply: eq_count => v /=;
by case: (edge N _ v) => /=; rewrite ?andbF // andbC.
Qed.

(* the rules of C3_train, on parameters *)
Section Training.
Variables (S : Type) (opt : nat -> R -> S -> R * S) (decay : nat -> R).
Variables (B : nat -> (P -> R) -> seq (sample R V)) (theta0 : P -> R) (s0 : P -> S).
Fixpoint tied_train (T : nat) : (P -> R) * (P -> S) :=
  if T is T'.+1 then
    let: (theta, s) := tied_train T' in
    let g := tied_grad theta (B T' theta) in
    (fun p => decay T' * theta p + (opt T' (g p) (s p)).1, fun p => (opt T' (g p) (s p)).2)
  else (theta0, s0).

Theorem C3_tied : RE N c (tied theta0) -> CE N c (tied theta0) -> together s0 -> forall T,
  [/\ RE N c (tied (tied_train T).1), CE N c (tied (tied_train T).1), together (tied_train T).2 &
      together (fun p => (tied_train T).1 p - (\prod_(k < T) decay k) * theta0 p)].
Proof.
move=> re0 ce0 ts0; elim=> [|T] /=.
  by split=> // p q _; rewrite big_ord0 !mul1r !subrr.
case: (tied_train T) => theta s /= [re ce ts tt]; have tg := C2_tied (B T theta) re ce.
have to : together (fun p => (opt T (tied_grad theta (B T theta) p) (s p)).1).
  by move=> p q pq; rewrite (tg _ _ pq) (ts _ _ pq).
have [re' ce'] := tied_shift (decay T) to re ce; split=> //.
  by move=> p q pq; rewrite (tg _ _ pq) (ts _ _ pq).
move=> p q pq; rewrite !big_ord_recr /= [_ * decay T]mulrC -!mulrA.
rewrite ![decay T * _ + _]addrC -!addrA -!mulrBr (tt _ _ pq).
by rewrite (to _ _ pq).
Qed.
End Training.
End Tied.
