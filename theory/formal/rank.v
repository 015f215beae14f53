(* The effective rank under an activation, which acts on correlations entry by entry (R1, R2, R4, R8). *)
Set Warnings "-notation-overridden,-ambiguous-paths".
From mathcomp Require Import all_ssreflect all_algebra.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Rank.
Variable R : realFieldType.
Implicit Types (a : nat -> R) (K : R -> R) (r e : R).

Definition partial a m r := \sum_(0 <= k < m) a k * r ^+ k.
(* K(r) = sum_k a_k r^k on [-1, 1], an infinite series with a_k >= 0, a_0 = 0 (centred) and sum a_k = 1 *)
Definition kernel a K :=
  [/\ forall k, 0 <= a k, a 0%N = 0, K 1 = 1 &
      forall r, `|r| <= 1 -> forall e, 0 < e ->
        exists M, forall m, (M <= m)%N -> `|K r - partial a m r| <= e].

Definition er2 n (C : 'M[R]_n) := (\tr C) ^+ 2 / \sum_i \sum_j C i j ^+ 2.
Definition correlations n (C : 'M[R]_n) := (forall i, C i i = 1) /\ (forall i j, `|C i j| <= 1).

Section OneKernel.
Variables (a : nat -> R) (K : R -> R).
Hypothesis ker : kernel a K.
Let a_ge0 k : 0 <= a k. Proof. by case: ker. Qed.
Let a0 : a 0%N = 0. Proof. by case: ker. Qed.
Let K1 : K 1 = 1. Proof. by case: ker. Qed.
Let lim r : `|r| <= 1 -> forall e, 0 < e -> exists M, forall m, (M <= m)%N -> `|K r - partial a m r| <= e.
Proof. by case: ker => _ _ _ h; exact: h. Qed.

Lemma mass m : \sum_(0 <= k < m) a k <= 1.
Proof.
apply/ler_addgt0Pr => e e_gt0; have [|M close] := @lim 1 _ e e_gt0; first by rewrite normr1.
have le_m : (m <= maxn m M)%N by apply: leq_maxl.
have := close (maxn m M) (leq_maxr _ _); rewrite K1 distrC ler_distl => /andP[_]; apply: le_trans.
rewrite /partial (big_cat_nat _ _ _ (leq0n m) le_m) /= [X in _ <= X + _](eq_bigr a) => [|k _]; last by rewrite expr1n mulr1.
by rewrite ler_addl sumr_ge0 // => k _; rewrite expr1n mulr1.
Qed.

Lemma tail m : (2 <= m)%N -> \sum_(2 <= k < m) a k <= 1 - a 1%N.
Proof.
move=> le2m; have := mass m; rewrite (big_cat_nat _ _ _ (leq0n 2) le2m) /= big_ltn // big_nat1 a0 add0r.
by rewrite -ler_subr_addl.
Qed.

Lemma a1_le1 : a 1%N <= 1.
Proof. by have := tail (leqnn 2); rewrite big_geq // subr_ge0. Qed.

Theorem R2_entry r : `|r| <= 1 -> `|K r| <= a 1%N * `|r| + (1 - a 1%N) * r ^+ 2.
Proof.
move=> r1; apply/ler_addgt0Pr => e e_gt0; have [M close] := lim r1 e_gt0.
pose m := maxn 2 M; have le2m : (2 <= m)%N by apply: leq_maxl.
have {}close := close m (leq_maxr _ _).
have -> : K r = partial a m r + (K r - partial a m r) by rewrite addrC subrK.
apply: le_trans (ler_norm_add _ _) _; apply: ler_add close.
rewrite /partial (big_cat_nat _ _ _ (leq0n 2) le2m) /= big_ltn // big_nat1 a0 mul0r add0r.
apply: le_trans (ler_norm_add _ _) _; rewrite normrM (ger0_norm (a_ge0 _)) expr1 ler_add2l.
apply: le_trans (ler_norm_sum _ _ _) _.
apply: le_trans (_ : \sum_(2 <= k < m) a k * r ^+ 2 <= _); last first.
  by rewrite -mulr_suml ler_wpmul2r ?sqr_ge0 // tail.
rewrite big_nat_cond [X in _ <= X]big_nat_cond; apply: ler_sum => k /andP[/andP[le2k _] _].
rewrite normrM (ger0_norm (a_ge0 _)) ler_wpmul2l // normrX -[r ^+ 2]real_normK ?num_real //.
by rewrite ler_wiexpn2l.
Qed.

Lemma sqr_le_norm r : `|r| <= 1 -> r ^+ 2 <= `|r|.
Proof. by move=> r1; rewrite -real_normK ?num_real // expr2 ler_pimull. Qed.

Theorem R1_entry r : `|r| <= 1 -> `|K r| <= `|r|.
Proof.
move=> r1; apply: le_trans (R2_entry r1) _.
rewrite -ler_subr_addl -[X in X - _]mul1r -mulrBl.
by rewrite ler_wpmul2l ?subr_ge0 ?a1_le1 ?sqr_le_norm.
Qed.

Theorem R1_strict r k : (2 <= k)%N -> 0 < a k -> 0 < `|r| -> `|r| < 1 -> `|K r| < `|r|.
Proof.
move=> le2k ak r0 r1; apply: le_lt_trans (R2_entry (ltW r1)) _.
rewrite -ltr_subr_addl -[X in X - _]mul1r -mulrBl.
rewrite ltr_pmul2l; first by rewrite -real_normK ?num_real // expr2 gtr_pmull.
apply: lt_le_trans ak _; apply: le_trans (tail (leqW le2k)).
by rewrite big_nat_recr //= ler_addr sumr_ge0.
Qed.

Lemma er2_ge n (D : 'M[R]_n) S : (forall i, D i i = 1) -> \sum_i \sum_j D i j ^+ 2 <= S ->
  n%:R ^+ 2 / S <= er2 D.
Proof.
move=> diag le_S; have -> : er2 D = n%:R ^+ 2 / \sum_i \sum_j D i j ^+ 2.
  by rewrite /er2 /mxtrace (eq_bigr (fun=> 1)) ?sumr_const ?card_ord.
case: n D diag le_S => [|n] D diag le_S; first by rewrite expr0n !mul0r.
have pos : 0 < \sum_i \sum_j D i j ^+ 2.
  rewrite big_ord_recl /= big_ord_recl diag expr1n -addrA ltr_spaddl ?ltr01 //.
  by rewrite addr_ge0 ?sumr_ge0 // => *; rewrite ?sumr_ge0 // => *; apply: sqr_ge0.
by rewrite ler_wpmul2l ?sqr_ge0 // lef_pinv ?posrE // (lt_le_trans pos).
Qed.

Lemma er2_diag n (D : 'M[R]_n) : (forall i, D i i = 1) -> er2 D = n%:R ^+ 2 / \sum_i \sum_j D i j ^+ 2.
Proof. by move=> diag; rewrite /er2 /mxtrace (eq_bigr (fun=> 1)) ?sumr_const ?card_ord. Qed.

Theorem R1 n (C : 'M[R]_n) : correlations C -> er2 C <= er2 (map_mx K C).
Proof.
move=> [diag le1]; rewrite (er2_diag diag); apply: er2_ge => [i|]; first by rewrite mxE diag K1.
do 2![apply: ler_sum => ? _]; rewrite mxE.
by rewrite -[_ ^+ 2]real_normK ?num_real // -[X in _ <= X]real_normK ?num_real // ler_expn2r ?nnegrE ?R1_entry.
Qed.

Theorem R2 n (C : 'M[R]_n) : correlations C ->
  n%:R ^+ 2 / (n%:R + \sum_i \sum_(j | j != i) (a 1%N * `|C i j| + (1 - a 1%N) * C i j ^+ 2) ^+ 2)
  <= er2 (map_mx K C).
Proof.
move=> [diag le1]; apply: er2_ge => [i|]; first by rewrite mxE diag K1.
rewrite -[n in n%:R]card_ord -sumr_const -big_split; apply: ler_sum => i _.
rewrite (bigD1 i) //= mxE diag K1 expr1n ler_add2l; apply: ler_sum => j _; rewrite mxE.
have le_b := R2_entry (le1 i j).
by rewrite -[_ ^+ 2]real_normK ?num_real // ler_expn2r ?nnegrE // (le_trans _ le_b).
Qed.

(* a correlation inside (0, 1) and a term of degree >= 2: the rank rises *)
Theorem R1_gain n (C : 'M[R]_n) i0 j0 k : correlations C -> (2 <= k)%N -> 0 < a k ->
  0 < `|C i0 j0| -> `|C i0 j0| < 1 -> er2 C < er2 (map_mx K C).
Proof.
move=> [diag le1] le2k ak c0 c1; rewrite (er2_diag diag) er2_diag => [|i]; last by rewrite mxE diag K1.
have sq x y : `|x| <= `|y| -> x ^+ 2 <= y ^+ 2 :> R.
  by move=> le_xy; rewrite -[x ^+ 2]real_normK ?num_real // -[y ^+ 2]real_normK ?num_real // ler_expn2r ?nnegrE.
have n0 : (0 < n)%N by apply: leq_ltn_trans (ltn_ord i0).
have pos (D : 'M[R]_n) : (forall i, D i i = 1) -> 0 < \sum_i \sum_j D i j ^+ 2.
  move=> dD; rewrite (bigD1 (Ordinal n0)) //= (bigD1 (Ordinal n0)) //= dD expr1n -addrA ltr_spaddl ?ltr01 //.
  by rewrite addr_ge0 ?sumr_ge0 // => *; rewrite ?sumr_ge0 // => *; apply: sqr_ge0.
rewrite ltr_pmul2l ?exprn_gt0 ?ltr0n // ltf_pinv ?posrE ?pos // => [|i]; last by rewrite mxE diag K1.
rewrite (bigD1 i0) //= [X in _ < X](bigD1 i0) //= ltr_le_add //; last first.
  by do 2![apply: ler_sum => ? _]; rewrite mxE sq ?R1_entry.
rewrite (bigD1 j0) //= [X in _ < X](bigD1 j0) //= ltr_le_add //; last first.
  by apply: ler_sum => ? _; rewrite mxE sq ?R1_entry.
rewrite mxE -[_ ^+ 2]real_normK ?num_real // -[X in _ < X]real_normK ?num_real //.
by rewrite ltr_expn2r ?nnegrE //= (R1_strict le2k).
Qed.
End OneKernel.

(* correlation matrices: unit diagonal and positive semidefinite gives entries of size at most one *)
Definition form n (C : 'M[R]_n) (x : 'I_n -> R) := \sum_k x k * \sum_l C k l * x l.
Lemma sum_delta n (f : 'I_n -> R) i : \sum_l f l * (l == i)%:R = f i.
Proof. by rewrite (bigD1 i) //= eqxx mulr1 big1 ?addr0 // => l /negPf->; rewrite mulr0. Qed.

Theorem R1_correlations n (C : 'M[R]_n) : (forall i j, C i j = C j i) -> (forall i, C i i = 1) ->
  (forall x, 0 <= form C x) -> correlations C.
Proof.
move=> sym diag psd; split=> // i j.
have formE s : form C (fun k => (k == i)%:R + s * (k == j)%:R) = (1 + s * C i j) + s * (C i j + s).
  have row k : \sum_l C k l * ((l == i)%:R + s * (l == j)%:R) = C k i + s * C k j.
    under eq_bigr do rewrite mulrDr mulrCA; by rewrite big_split -mulr_sumr /= !sum_delta.
  rewrite /form; under eq_bigr do rewrite row mulrC mulrDr mulrCA.
  by rewrite big_split -mulr_sumr /= !sum_delta !diag mulr1 (sym j i).
have := psd (fun k => (k == i)%:R + 1 * (k == j)%:R); have := psd (fun k => (k == i)%:R + -1 * (k == j)%:R).
rewrite !formE !mul1r !mulN1r opprD opprK [- _ + 1]addrC -!mulr2n [C i j + 1]addrC -mulr2n.
by rewrite !pmulrn_lge0 // subr_ge0 -ler_subl_addl sub0r ler_norml => -> ->.
Qed.
End Rank.

(* ------------------------------------------------------------------ *)
(* R8, the algebraic half: stable rank <= er_2 <= rank, for a spectrum  *)
(* ------------------------------------------------------------------ *)
Section Spectrum.
Variables (R : realFieldType) (n : nat) (p : 'I_n -> R).
Hypothesis p_ge0 : forall i, 0 <= p i.
Hypothesis p_sum : \sum_i p i = 1.

Theorem R8_stable m : (forall i, p i <= m) ->
  \sum_i p i ^+ 2 <= m ?= iff [forall i, (p i == 0) || (p i == m)].
Proof.
move=> le_m; have mE : m = \sum_i p i * m by rewrite -mulr_suml p_sum mul1r.
rewrite {1}mE (_ : [forall i, _] = [forall (i | predT i), (p i == 0) || (p i == m)]) //.
apply: leif_sum => i _; split.
  by rewrite expr2 ler_wpmul2l.
by rewrite expr2 -subr_eq0 -mulrBr mulf_eq0 subr_eq0.
Qed.

Theorem R8_rank (S := [pred i | p i != 0]) :
  1 <= #|S|%:R * \sum_i p i ^+ 2 ?= iff [forall (i | p i != 0), p i == #|S|%:R^-1].
Proof.
have sumS (f : R -> R) : f 0 = 0 -> \sum_i f (p i) = \sum_(i in S) f (p i).
  by move=> f0; rewrite [RHS]big_mkcond; apply: eq_bigr => i _; rewrite inE; case: eqP => [->|].
have S0 : 0 < #|S|%:R :> R.
  rewrite ltr0n lt0n; apply/negP => /eqP/card0_eq none.
  by move: p_sum; rewrite (sumS id) // big_pred0 // => /eqP; rewrite eq_sym oner_eq0.
set s := #|S|%:R in S0 *; have s0 : s != 0 by rewrite gt_eqF.
have gap : s * (\sum_i p i ^+ 2) - 1 = s * \sum_(i in S) (p i - s^-1) ^+ 2.
  have -> : \sum_(i in S) (p i - s^-1) ^+ 2 = \sum_(i in S) p i ^+ 2 - s^-1.
    under eq_bigr do rewrite sqrrB -mulrnAr.
    rewrite big_split sumrB /= -mulr_suml -(sumS id) // p_sum mul1r sumr_const -[_ *+ #|_|]mulr_natr -/s.
    by rewrite expr2 -mulrA mulVf // mulr1 mulr2n opprD addrA subrK.
  by rewrite (sumS (fun x => x ^+ 2)) ?expr0n // mulrBr mulfV.
have sq i : 0 <= (p i - s^-1) ^+ 2 by exact: sqr_ge0.
split.
  by rewrite -subr_ge0 gap mulr_ge0 ?(ltW S0) // sumr_ge0.
rewrite eq_sym -subr_eq0 gap mulf_eq0 (negPf s0) /= psumr_eq0 //.
apply/allP/forall_inP => [h i pi|h i _]; last by apply/implyP => /h/eqP->; rewrite subrr expr0n.
by have := h i (mem_index_enum i); rewrite inE pi /= sqrf_eq0 subr_eq0.
Qed.
End Spectrum.

(* ------------------------------------------------------------------ *)
(* R4, the lower bound on the least eigenvalue, as a quadratic form     *)
(* ------------------------------------------------------------------ *)
Section LeastEigenvalue.
Variables (R : realFieldType) (n : nat).
Implicit Types (D : 'I_n -> 'I_n -> R) (x : 'I_n -> R).
Definition qf D x := \sum_i \sum_j x i * x j * D i j.
Definition sq x := \sum_i x i ^+ 2.

Lemma dominance D x g : (forall i, D i i = 1) -> (forall i j, i != j -> `|D i j| <= g) -> 0 <= g ->
  (1 - (n%:R - 1) * g) * sq x <= qf D x.
Proof.
move=> diag off g0.
have termwise i j : - (g * ((x i ^+ 2 + x j ^+ 2) / 2%:R)) + (if i == j then (1 + g) * x i ^+ 2 else 0) <= x i * x j * D i j.
  have [<-|ne] := eqVneq i j.
    rewrite diag mulr1 -mulr2n -mulr_natr mulfK ?pnatr_eq0 // mulrDl mul1r addrC -addrA subrr addr0.
    by rewrite expr2.
  rewrite addr0; apply: le_trans (_ : - `|x i * x j * D i j| <= _); last by rewrite ler_oppl -normrN ler_norm.
  rewrite ler_opp2 normrM mulrC; apply: ler_pmul => //; first exact: off.
  rewrite ler_pdivl_mulr ?ltr0n // -[x i ^+ 2]real_normK ?num_real // -[x j ^+ 2]real_normK ?num_real //.
  rewrite normrM mulr_natr -subr_ge0; apply: le_trans (sqr_ge0 (`|x i| - `|x j|)) _.
  by rewrite sqrrB addrAC.
apply: le_trans (_ : \sum_i \sum_j (- (g * ((x i ^+ 2 + x j ^+ 2) / 2%:R)) + (if i == j then (1 + g) * x i ^+ 2 else 0)) <= _); last first.
  by do 2![apply: ler_sum => ? _].
have diagsum i : \sum_j (if i == j then (1 + g) * x i ^+ 2 else 0) = (1 + g) * x i ^+ 2.
  by rewrite -big_mkcond (big_pred1 i) // => j; rewrite eq_sym.
under eq_bigr do rewrite big_split /= diagsum sumrN -mulr_sumr -mulr_suml big_split /= sumr_const card_ord.
rewrite big_split /= sumrN -mulr_sumr -mulr_suml big_split /= sumr_const card_ord -mulr_sumr -/(sq x).
rewrite sumrMnl -/(sq x) -mulr2n -[_ *+ n *+ 2]mulr_natr mulfK ?pnatr_eq0 // -[sq x *+ n]mulr_natl.
rewrite mulrA -[- (g * _ * _)]mulNr -[X in _ <= X]mulrDl (_ : 1 - (n%:R - 1) * g = - (g * n%:R) + (1 + g)) //.
by rewrite mulrBl mul1r opprB [g * _]mulrC addrA addrC.
Qed.

Lemma sq_ge0 x : 0 <= sq x. Proof. by rewrite sumr_ge0 // => i _; apply: sqr_ge0. Qed.

(* Schur: entrywise product with a Gram matrix *)
Variables (r : nat) (A : 'I_n -> 'I_r -> R).
Definition gram i j := \sum_s A i s * A j s.
Lemma schur D : (forall x, 0 <= qf D x) -> forall x, 0 <= qf (fun i j => D i j * gram i j) x.
Proof.
move=> psd x; suff -> : qf (fun i j => D i j * gram i j) x = \sum_s qf D (fun i => x i * A i s).
  by rewrite sumr_ge0.
rewrite /qf [RHS]exchange_big /=; apply: eq_bigr => i _; rewrite [RHS]exchange_big /=; apply: eq_bigr => j _.
rewrite /gram !mulr_sumr; apply: eq_bigr => s _.
rewrite -!mulrA; congr (_ * _); rewrite [RHS]mulrCA; congr (_ * _).
by rewrite [LHS]mulrC -mulrA.
Qed.
Lemma power_psd k x : 0 <= qf (fun i j => gram i j ^+ k.+1) x.
Proof.
elim: k x => [|k IH] x.
  suff -> : qf (fun i j => gram i j ^+ 1) x = \sum_s (\sum_i x i * A i s) ^+ 2.
    by rewrite sumr_ge0 // => s _; apply: sqr_ge0.
  under [RHS]eq_bigr do rewrite expr2 mulr_suml.
  rewrite [RHS]exchange_big /=; apply: eq_bigr => i _.
  under [RHS]eq_bigr do rewrite mulr_sumr.
  rewrite [RHS]exchange_big /=; apply: eq_bigr => j _; rewrite expr1 /gram mulr_sumr.
  by apply: eq_bigr => s _; rewrite mulrACA.
suff -> : qf (fun i j => gram i j ^+ k.+2) x = qf (fun i j => gram i j ^+ k.+1 * gram i j) x by exact: schur.
by do 2![apply: eq_bigr => ? _]; rewrite -exprSr.
Qed.

Variables (a : nat -> R) (K : R -> R) (b : R).
Hypothesis ker : kernel a K.
(* C is a Gram matrix of unit vectors, b bounds its entries off the diagonal *)
Hypothesis unit_diag : forall i, gram i i = 1.
Hypothesis inside : forall i j, i != j -> `|gram i j| <= b.
Hypothesis b_ge0 : 0 <= b.
Hypothesis b_le1 : b <= 1.

Lemma term_bound k x : Num.max 0 (1 - (n%:R - 1) * b ^+ k.+1) * sq x <= qf (fun i j => gram i j ^+ k.+1) x.
Proof.
rewrite maxEle; case: ifP => _; last by rewrite mul0r power_psd.
apply: dominance => [i|i j ne|]; last exact: exprn_ge0; first by rewrite unit_diag expr1n.
by rewrite normrX ler_expn2r ?nnegrE // inside.
Qed.

Theorem R4_bound m x :
  (\sum_(0 <= k < m) a k.+1 * Num.max 0 (1 - (n%:R - 1) * b ^+ k.+1)) * sq x <= qf (fun i j => K (gram i j)) x.
Proof.
have [a_ge0 a0 _ lim] := ker.
have le1 i j : `|gram i j| <= 1.
  by have [<-|ne] := eqVneq i j; [rewrite unit_diag normr1 | rewrite (le_trans (inside ne))].
pose X := \sum_i \sum_j `|x i * x j|.
have X0 : 0 <= X by do 2![apply: sumr_ge0 => ? _].
apply/ler_addgt0Pr => e e0.
pose d := e / (X + 1); have X1 : 0 < X + 1 by rewrite ltr_spaddr.
have d0 : 0 < d by rewrite divr_gt0.
have [f close] : exists f : 'I_n * 'I_n -> nat, forall p k, (f p <= k)%N -> `|K (gram p.1 p.2) - partial a k (gram p.1 p.2)| <= d.
  apply: (@fin_all_exists [finType of 'I_n * 'I_n] (fun=> nat) (fun p M => forall k, (M <= k)%N -> `|K (gram p.1 p.2) - partial a k (gram p.1 p.2)| <= d)) => p.
  exact: lim.
pose k := maxn m.+1 (\max_p f p); have le_mk : (m.+1 <= k)%N by apply: leq_maxl.
have {}close i j : `|K (gram i j) - partial a k (gram i j)| <= d.
  by apply: (close (i, j)); apply: leq_trans (leq_maxr _ _); apply: leq_bigmax.
apply: le_trans (_ : qf (fun i j => partial a k (gram i j)) x <= _); last first.
  rewrite -ler_subl_addl /qf -sumrB.
  apply: le_trans (_ : \sum_i \sum_j d * `|x i * x j| <= _).
    apply: ler_sum => i _; rewrite -sumrB; apply: ler_sum => j _.
    rewrite -mulrBr; apply: le_trans (ler_norm _) _; rewrite normrM mulrC ler_wpmul2r //.
    by rewrite distrC.
  under eq_bigr do rewrite -mulr_sumr; rewrite -mulr_sumr -/X.
  by rewrite /d mulrAC ler_pdivr_mulr // ler_wpmul2l ?(ltW e0) // ler_addl ler01.
have -> : qf (fun i j => partial a k (gram i j)) x = \sum_(0 <= l < k.-1) a l.+1 * qf (fun i j => gram i j ^+ l.+1) x.
  have split_k y : partial a k y = \sum_(0 <= l < k.-1) a l.+1 * y ^+ l.+1.
    have k0 : (0 < k)%N by apply: leq_trans le_mk.
    by rewrite /partial big_ltn // a0 mul0r add0r -{1}(prednK k0) big_add1.
  rewrite [LHS]/qf; under eq_bigr => i _ do under eq_bigr => j _ do rewrite split_k mulr_sumr.
  under eq_bigr do rewrite exchange_big /=.
  rewrite exchange_big /=; apply: eq_bigr => l _; rewrite /qf mulr_sumr; apply: eq_bigr => i _.
  by rewrite mulr_sumr; apply: eq_bigr => j _; rewrite mulrCA.
have le_m : (m <= k.-1)%N by rewrite -ltnS (leq_trans le_mk) // leqSpred.
rewrite (big_cat_nat _ _ _ (leq0n m) le_m) /= mulr_suml ler_paddr //.
  by rewrite sumr_ge0 // => l _; rewrite mulr_ge0 ?power_psd.
by apply: ler_sum => l _; rewrite -mulrA ler_wpmul2l ?term_bound.
Qed.

(* one degree with positive mass and (n - 1) b^k < 1 makes the form positive definite: full rank *)
Theorem R4_definite k x : 0 < a k.+1 -> (n%:R - 1) * b ^+ k.+1 < 1 -> (exists i, x i != 0) ->
  0 < qf (fun i j => K (gram i j)) x.
Proof.
move=> ak small [i xi]; apply: lt_le_trans (R4_bound k.+1 x); have [a_ge0 _ _ _] := ker.
have sq0 : 0 < sq x.
  rewrite /sq (bigD1 i) //= ltr_spaddl // ?sumr_ge0 // => [|j _]; last exact: sqr_ge0.
  by rewrite lt_def sqrf_eq0 xi sqr_ge0.
rewrite mulr_gt0 // big_nat_recr //= ltr_paddl //.
  by rewrite sumr_ge0 // => l _; rewrite mulr_ge0 // le_maxr lexx.
by rewrite mulr_gt0 // lt_maxr subr_gt0 small orbT.
Qed.
End LeastEigenvalue.
