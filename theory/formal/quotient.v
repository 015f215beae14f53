(* A cloned network computes and trains as its base network, one unit a block (C7). *)
Set Warnings "-notation-overridden,-ambiguous-paths".
From mathcomp Require Import all_ssreflect all_algebra.
From Lop Require Import network equitable.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Quotient.
Variables (R : comRingType) (V K : eqType) (N : net R V) (rk : V -> nat) (c : V -> K) (rep : K -> V).
Hypothesis dag : acyclic_by N rk.
Hypothesis adm : admissible N c.
Hypothesis repK : forall u, c (rep (c u)) = c u.
Hypothesis rep_us : forall u, u \in units N -> rep (c u) \in units N.
Hypothesis level : forall u v, c u = c v -> rk u = rk v.  (* no block spans depths: C5_rank and C5_level give such an rk *)
Notation us := (units N).
(* rep i is a unit of block i, v in S_i in the paper: by RE it does not matter which *)
Variable w : weights R V.
Hypothesis re : RE N c w.

Definition base : net R K := {|
  units := undup (map c us);
  edge := fun j i => has (fun u => edge N u (rep i) && (c u == j)) us;
  steps := steps N;
  inp := fun i => inp N (rep i); out := fun i => out N (rep i);
  act := fun i => act N (rep i); slp := fun i => slp N (rep i) |}.
Definition base_weight (w : weights R V) : weights R K := fun j i =>
  sumv us (fun u => edge N u (rep i) && (c u == j)) (w ^~ (rep i)).
Lemma base_weightE w' j i :
  base_weight w' j i = \sum_(u <- us | edge N u (rep i) && (c u == j)) w' u (rep i).
Proof. exact: sumvE. Qed.

Lemma base_dag : acyclic_by base (rk \o rep).
Proof.
split=> [j i /hasP[u us_u /andP[ui /eqP<-]]|i] /=; first by rewrite (level (repK u)) dag.1.
by rewrite mem_undup => /mapP[u us_u ->]; rewrite dag.2 // rep_us.
Qed.

Lemma base_forward x i : forward base (base_weight w) (x \o rep) i = forward N w x (rep i).
Proof.
symmetry; move: i; apply: (forward_unique base_dag) => i.
rewrite (forwardE dag) /=; case: (inp N _) => //; congr (act N _ _).
rewrite /preact sumvE (@sum_blocks _ _ _ N c) [RHS]big_mkcond; apply: eq_big_seq => j _ /=.
case: ifP => [/hasP[u0 us0 /andP[e0 /eqP c0]]|/hasPn none]; last first.
  by rewrite big_seq_cond big_pred0 // => u; case: (boolP (u \in us)) => //= /none/negPf.
rewrite base_weightE mulr_suml; apply: eq_bigr => u /andP[_ /eqP cu]; congr (_ * _).
by apply: (C1_forward dag adm x re); rewrite -c0 repK c0 cu.
Qed.

Theorem C7_forward x v : forward N w x v = forward base (base_weight w) (x \o rep) (c v).
Proof. by rewrite base_forward; apply: (C1_forward dag adm x re); rewrite repK. Qed.

Lemma base_preact x i : preact base (base_weight w) (x \o rep) i = preact N w x (rep i).
Proof.
rewrite /preact !sumvE [RHS](@sum_blocks _ _ _ N c) [LHS]big_mkcond; apply: eq_big_seq => j _ /=.
case: ifP => [/hasP[u0 us0 /andP[e0 /eqP c0]]|/hasPn none]; last first.
  by rewrite big_seq_cond big_pred0 // => u; case: (boolP (u \in us)) => //= /none/negPf.
rewrite base_weightE mulr_suml; apply: eq_bigr => u /andP[_ /eqP cu]; congr (_ * _).
by rewrite base_forward; apply: (C1_forward dag adm x re); rewrite -c0 repK c0 cu.
Qed.

Lemma base_slope x i : slope base (base_weight w) (x \o rep) i = slope N w x (rep i).
Proof. by rewrite /slope base_preact. Qed.

(* n_i, the number of units in block i *)
Definition n_ i : R := (count (fun v => c v == i) us)%:R.
Hypothesis ce : CE N c w.
Hypothesis uniq_us : uniq us.

(* sums of row sums are sums of column sums: n_i W_ij = n_j c_ij *)
Lemma double_count j i : rep i \in us -> rep j \in us -> c (rep i) = i -> c (rep j) = j ->
  n_ j * (\sum_(v <- us | edge N (rep j) v && (c v == i)) w (rep j) v) = n_ i * base_weight w j i.
Proof.
move=> us_i us_j ci cj.
have cnt k : n_ k = \sum_(u <- us | c u == k) 1 by rewrite /n_ -sum1_count natr_sum.
rewrite !cnt !mulr_suml.
transitivity (\sum_(u <- us | c u == j) \sum_(v <- us | edge N u v && (c v == i)) w u v).
  by apply: eq_bigr => u /eqP cu; rewrite mul1r; apply: ce; rewrite cj.
rewrite (eq_bigr (fun u => \sum_(v <- us | c v == i) if edge N u v then w u v else 0)); last first.
  by move=> u _; rewrite -big_mkcondr; apply: eq_bigl => v; rewrite andbC.
rewrite exchange_big /=; apply: eq_bigr => v /eqP cv; rewrite mul1r base_weightE.
rewrite -big_mkcondr; under eq_bigl do rewrite andbC.
by apply: re; rewrite ci.
Qed.

Lemma block_of_output i : out N (rep i) -> rep i \in us -> c (rep i) = i -> n_ i = 1.
Proof.
case: adm => _ out1 _ _ oi us_i ci; rewrite /n_ (eq_count (a2 := pred1 (rep i))) => [|v].
  by rewrite count_uniq_mem ?us_i.
by rewrite /=; apply/eqP/eqP => [cv|->//]; apply/esym/(out1 _ _ oi); rewrite ci cv.
Qed.

(* the error of a unit of the base network is n_i times the error of each clone *)
Definition base_sample (s : sample R V) : sample R K := Sample (xval s \o rep) (seed s \o rep).

Theorem C7_backward s i : rep i \in us -> c (rep i) = i ->
  backward base (base_weight w) (base_sample s) i = n_ i * backward N w s (rep i).
Proof.
have [d] := ubnP (steps N - rk (rep i))%N; elim: d i => // d IH i lt_id us_i ci.
rewrite (backwardE base_dag) (backwardE dag) mulrDr /=; congr (_ + _).
  by case: ifP => [oi|_]; rewrite ?mulr0 // block_of_output ?mul1r.
rewrite [in RHS](@sum_blocks _ _ _ N c) mulr_sumr big_seq_cond [RHS]big_seq big_mkcond [RHS]big_mkcond.
apply: eq_bigr => j _; rewrite mem_undup; case: mapP => [[v us_v jE]|//] /=.
have us_j : rep j \in us by rewrite jE rep_us.
have cj : c (rep j) = j by rewrite jE repK.
have -> : \sum_(v0 <- us | edge N (rep i) v0 && (c v0 == j)) w (rep i) v0 * (slope N w (xval s) v0 * backward N w s v0)
  = (\sum_(v0 <- us | edge N (rep i) v0 && (c v0 == j)) w (rep i) v0) * (slope N w (xval s) (rep j) * backward N w s (rep j)).
  rewrite mulr_suml; apply: eq_bigr => v0 /andP[_ /eqP cv]; rewrite -cj in cv.
  by rewrite (C1_slope dag adm _ re cv) (C2_backward dag adm _ re ce cv).
rewrite [n_ i * (_ * _)]mulrA double_count //.
case: ifP => [/hasP[u0 us0 /andP[e0 /eqP c0]]|/hasPn none]; last first.
  rewrite base_weightE big_seq_cond big_pred0 ?mulr0 ?mul0r // => u.
  by case: (boolP (u \in us)) => //= /none/negPf.
rewrite base_slope -mulrA [RHS]mulrCA [n_ j * (_ * _)]mulrCA; congr (_ * (_ * _)); apply: IH => //.
apply: leq_trans (_ : (steps N - rk (rep i) <= d)%N) => //.
have lt_ij : (rk (rep i) < rk (rep j))%N.
  by rewrite (level (v := u0)) ?dag.1 // -c0 repK.
by rewrite ltn_sub2l // (ltn_trans lt_ij) ?dag.2.
Qed.

(* hence the gradient of a base weight is n_i times that of each edge of the pair *)
Theorem C7_gradient b u v : v \in us ->
  grad base (base_weight w) (map base_sample b) (c u) (c v) = n_ (c v) * grad N w b u v.
Proof.
move=> us_v; rewrite !gradE big_map mulr_sumr; apply: eq_bigr => s _ /=.
rewrite base_forward base_slope (C7_backward _ (rep_us us_v) (repK v)).
rewrite (C1_forward dag adm _ re (repK u)) (C1_slope dag adm _ re (repK v)).
rewrite (C2_backward dag adm _ re ce (repK v)) [_ * (n_ _ * _)]mulrCA; exact: mulrCA.
Qed.

(* a step of descent of the clone is one of the base network with the rates eta d_ij / n_i *)
Definition d_ j i : R := (count (fun u => edge N u (rep i) && (c u == j)) us)%:R.
Theorem C7_step eta b j i : rep i \in us -> c (rep i) = i ->
  n_ i * base_weight (fun u v => w u v - eta * grad N w b u v) j i =
  n_ i * base_weight w j i - eta * d_ j i * grad base (base_weight w) (map base_sample b) j i.
Proof.
move=> us_i ci; rewrite !base_weightE sumrB -mulr_sumr mulrBr; congr (_ - _).
rewrite mulrCA -mulrA; congr (_ * _).
rewrite (eq_bigr (fun=> grad N w b (rep j) (rep i))) => [|u /andP[_ /eqP cu]]; last first.
  by apply: (C2_gradient dag adm b re ce) => //; rewrite -cu repK.
have [/hasP[u0 us0 /andP[_ /eqP c0]]|none] := boolP (has (fun u => edge N u (rep i) && (c u == j)) us); last first.
  by rewrite big_hasC // /d_; move: none; rewrite has_count -eqn0Ngt => /eqP->; rewrite mulr0 mul0r.
have cj : c (rep j) = c u0 by rewrite -c0 repK.
have := C7_gradient b u0 us_i; rewrite c0 ci => ->.
rewrite (C2_gradient dag adm b re ce cj (erefl (c (rep i)))) big_const_seq iter_addr_0 -mulr_natr.
by rewrite mulrA mulrC.
Qed.
End Quotient.

(* T steps of heavy ball; descent is mu = 0.  B gives samples and derivatives of the loss; the loss reads outputs only, which
   are equal in both networks *)
Section Momentum.
Variables (R : comRingType) (V K : eqType) (N : net R V) (rk : V -> nat) (c : V -> K) (rep : K -> V).
Hypothesis dag : acyclic_by N rk.
Hypothesis adm : admissible N c.
Hypothesis pat_in : pattern_in N c.
Hypothesis pat_out : pattern_out N c.
Hypothesis repK : forall u, c (rep (c u)) = c u.
Hypothesis rep_us : forall u, u \in units N -> rep (c u) \in units N.
Hypothesis level : forall u v, c u = c v -> rk u = rk v.
Hypothesis uniq_us : uniq (units N).
Variables (w0 : weights R V) (eta : nat -> R) (mu : R) (B : nat -> seq (sample R V)).
Hypothesis re0 : RE N c w0.
Hypothesis ce0 : CE N c w0.
(* the multiplier of the rate of W_ij is d_ij / n_i *)
Variable rate : K -> K -> R.
Hypothesis rateE : forall j i, n_ N c i * rate j i = d_ N c rep j i.

Fixpoint ball (T : nat) : weights R V * weights R V :=
  if T is T'.+1 then
    let: (w, m) := ball T' in
    let m' : weights R V := fun u v => mu * m u v + grad N w (B T') u v in
    (fun u v => w u v - eta T' * m' u v, m')
  else (w0, fun _ _ => 0).
Fixpoint base_ball (T : nat) : weights R K * weights R K :=
  if T is T'.+1 then
    let: (w, m) := base_ball T' in
    let m' : weights R K := fun j i => mu * m j i + grad (base N c rep) w (map (base_sample rep) (B T')) j i in
    (fun j i => w j i - eta T' * rate j i * m' j i, m')
  else (base_weight N c rep w0, fun _ _ => 0).

Theorem C7_momentum T :
  (forall j i, j \in units (base N c rep) -> i \in units (base N c rep) -> edge (base N c rep) j i ->
     base_weight N c rep (ball T).1 j i = (base_ball T).1 j i) /\
  (forall u v, u \in units N -> v \in units N -> edge N u v -> n_ N c (c v) * (ball T).2 u v = (base_ball T).2 (c u) (c v)).
Proof.
suff [_ _ _ wE mE] : [/\ RE N c (ball T).1, CE N c (ball T).1, BC N c (ball T).2,
  (forall j i, j \in units (base N c rep) -> i \in units (base N c rep) -> edge (base N c rep) j i ->
     base_weight N c rep (ball T).1 j i = (base_ball T).1 j i) &
  (forall u v, u \in units N -> v \in units N -> edge N u v -> n_ N c (c v) * (ball T).2 u v = (base_ball T).2 (c u) (c v))].
  by split.
elim: T => [|T] /=; first by split=> // *; rewrite mulr0.
case: (ball T) => w m /=; case: (base_ball T) => W M /= [re ce bm wE mE].
have bg := C2_gradient dag adm (B T) re ce.
have bm' : BC N c (fun u v => mu * m u v + grad N w (B T) u v).
  by move=> u u' v v' e e' cu cv; rewrite (bm _ _ _ _ e e' cu cv) (bg _ _ _ _ cu cv).
have bs : BC N c (fun u v => - (eta T * (mu * m u v + grad N w (B T) u v))).
  by move=> u u' v v' e e' cu cv; rewrite (bm' _ _ _ _ e e' cu cv).
have in_base v : v \in units N -> c v \in units (base N c rep) by move=> us_v; rewrite /= mem_undup map_f.
have mE' u v : u \in units N -> v \in units N -> edge N u v ->
    n_ N c (c v) * (mu * m u v + grad N w (B T) u v) =
    mu * M (c u) (c v) + grad (base N c rep) W (map (base_sample rep) (B T)) (c u) (c v).
  move=> us_u us_v uv; rewrite mulrDr mulrCA mE //; congr (_ + _).
  rewrite -(C7_gradient dag adm repK rep_us level re ce uniq_us (B T) u us_v).
  by apply: grad_ext; rewrite ?in_base // => j i /wE wEj /wEj.
split=> //.
- by apply: RE_ext (RE_shift pat_in 1 re bs) => u v; rewrite /shift mul1r.
- by apply: CE_ext (CE_shift pat_out 1 ce bs) => u v; rewrite /shift mul1r.
move=> j i us_j us_i /hasP[u0 us_u0 /andP[e0 /eqP c0]].
have [v0 us_v0 iE] : exists2 v, v \in units N & i = c v by move: us_i; rewrite /= mem_undup => /mapP.
have ci : c (rep i) = i by rewrite iE repK.
have us_ri : rep i \in units N by rewrite iE rep_us.
have edge_ji : edge (base N c rep) j i by apply/hasP; exists u0; rewrite // e0 c0 eqxx.
rewrite -(wE _ _ us_j us_i edge_ji) !base_weightE sumrB -mulr_sumr; congr (_ - _); rewrite -mulrA; congr (_ * _).
have := mE' u0 (rep i) us_u0 us_ri e0; rewrite c0 ci => <-.
rewrite (eq_bigr (fun=> mu * m u0 (rep i) + grad N w (B T) u0 (rep i))) => [|u /andP[eu /eqP cu]]; last first.
  by apply: bm'; rewrite ?cu ?c0.
by rewrite big_const_seq iter_addr_0 -[RHS]mulrCA [RHS]mulrA rateE /d_ -mulr_natl.
Qed.
End Momentum.

